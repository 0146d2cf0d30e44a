"""What a guarded server did is on the record, or it does nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepstone.integrations.mlflow.recording as recording
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


@pytest.mark.parametrize("error", [OSError("no space"), ValueError("odd"), MemoryError()])
def test_no_failure_of_whatever_kind_loses_a_read_or_ends_the_writing(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    tried, perform = [], recording.perform

    def fail(*asked: Any) -> Any:
        tried.append(asked)
        raise error

    monkeypatch.setattr(recording, "_EVERY_S", 0.01)
    monkeypatch.setattr(recording, "perform", fail)
    recorder = LedgerRecorder(site)
    recorder.read(call("kept"))
    # The thread tries, fails, and tries again.
    _until(lambda: len(tried) > 2)
    with pytest.raises(OperationalError, match=r"mlflow\.unrecorded"):
        recorder.read(call("refused"))
    with pytest.raises(type(error)):
        recorder.change(call("lost"))
    monkeypatch.setattr(recording, "perform", perform)
    _until(lambda: calls(site) == ["kept"])


def test_reads_that_were_served_while_a_write_failed_are_kept_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_EVERY_S", 600)
    monkeypatch.setattr(recording, "_MOST", 2)
    recorder, perform = LedgerRecorder(site), recording.perform

    def fail(*asked: Any) -> Any:
        recorder.read(call("third"))
        recorder.read(call("fourth"))
        raise OSError("no space")

    monkeypatch.setattr(recording, "perform", fail)
    recorder.read(call("first"))
    recorder.read(call("second"))
    with pytest.raises(OSError, match="no space"):
        recorder.flush()
    monkeypatch.setattr(recording, "perform", perform)
    recorder.flush()
    assert calls(site) == ["first", "second", "third", "fourth"]


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
