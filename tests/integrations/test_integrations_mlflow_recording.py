"""What a guarded server did is on the record, or it does nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepstone.errors import InputError, OperationalError
from keepstone.integrations.mlflow.recording import LedgerRecorder
from keepstone.ledger import LedgerReader, parse_entry
from keepstone.workspace.create import create_workspace
from keepstone.workspace.site import Site


def calls(site: Site) -> list[object]:
    with LedgerReader.open(site.layout.ledger) as reader:
        found = [parse_entry(body) for _, body in reader.indexed("event")]
    return [one["action"] for one in found if one["event"] == "registry.call"]


def call(action: str) -> dict[str, object]:
    return {"principal": "user:ana", "action": action, "decision": "allowed"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site.at(tmp_path / "ws", {"KEEPSTONE_OUTSIDE": str(tmp_path / "outside")})
    create_workspace(found, profile="local")
    return found


def test_a_change_is_on_the_record_when_it_returns_and_reads_before_it(site: Site) -> None:
    recorder = LedgerRecorder(site)
    recorder.read(call("first"))
    recorder.read(call("second"))
    recorder.change(call("third"))
    assert calls(site) == ["first", "second", "third"]


def test_where_nothing_can_be_recorded_nothing_is_read_until_it_can(site: Site) -> None:
    recorder = LedgerRecorder(site)
    recorder.read(call("kept"))
    aside = site.layout.root.with_name("aside")
    site.layout.root.rename(aside)
    with pytest.raises(InputError, match=r"workspace\.missing"):
        recorder.change(call("lost"))
    with pytest.raises(OperationalError, match=r"mlflow\.unrecorded"):
        recorder.read(call("refused"))

    aside.rename(site.layout.root)
    recorder.flush()
    recorder.read(call("after"))
    recorder.flush()
    # What did not happen for want of a record is not told as if it had.
    assert calls(site) == ["kept", "after"]
