"""From a workspace to a machine that has none: what is exported decides there as it does here."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.ledger import parse_checkpoint
from keepstone.trust import Trusted, open_bundle
from keepstone.workspace.admit import judge
from keepstone.workspace.control import ControlServer
from keepstone.workspace.opened import Workspace
from keepstone.workspace.operations import execute, perform
from keepstone.workspace.reading import public_key

HOUR = 3_600_000
Code = Callable[..., str]


def export(home: Any, *models: str, lifetime: int = HOUR) -> bytes:
    given = {"models": list(models), "lifetime_ms": lifetime}
    return str(perform(home.site, "trust.export", given)["bundle"]).encode()


@pytest.fixture
def receive(tmp_path: Path) -> Callable[..., Trusted]:
    """Open a bundle on another machine, which knows the workspace's gate key and nothing else."""

    def receive(home: Any, data: bytes) -> Trusted:
        path = tmp_path / "received.trust"
        path.write_bytes(data)
        key = public_key(home.layout, "gate").key_id
        return open_bundle(path, outside=tmp_path / "there", trust_key=key, clock=home.clock)

    return receive


@contextlib.contextmanager
def owned(home: Any) -> Iterator[Workspace]:
    with home.open() as workspace:
        server = ControlServer(home.layout, lambda *asked: execute(workspace, *asked))
        try:
            yield workspace
        finally:
            server.close()


def test_a_machine_without_a_workspace_verifies_and_loads(
    served: Any, subject: Subject, receive: Callable[..., Trusted], tmp_path: Path
) -> None:
    model = shutil.copy(served.model(), tmp_path / "elsewhere.onnx")
    data = export(served)
    shutil.rmtree(served.layout.root / "vault")
    trusted = receive(served, data)
    shutil.rmtree(served.layout.root / "ledger")
    assert trusted.verdict(subject).allowed
    loaded = trusted.load(model)
    answer = loaded.runtime.predict({"x": np.ones((1, 3), np.float32)})
    assert answer["y"].tolist() == [[2.0, 2.0, 2.0]]


def test_a_verdict_there_is_the_verdict_here(
    served: Any, subject: Subject, receive: Callable[..., Trusted]
) -> None:
    trusted = receive(served, export(served))
    with served.open() as workspace:
        here = judge(workspace, subject, "local")
    there = trusted.verdict(subject)
    assert (there.allowed, there.rule, there.policy) == (here.allowed, here.rule, here.policy)
    assert there.evidence == here.evidence
    assert [reason.detail for reason in there.reasons] == [one.detail for one in here.reasons]


def test_a_revocation_reaches_the_machine_with_the_next_bundle(
    served: Any, subject: Subject, receive: Callable[..., Trusted], code: Code
) -> None:
    before = export(served)
    assert receive(served, before).permit(subject)
    revocation = served.revocation(subject)
    perform(served.site, "statement.record", {"envelope": revocation.to_dict()})
    # Of whatever the bundle is about, every revocation is in it.
    after = receive(served, export(served, "scale"))
    assert code(after.permit, subject) == "gate.revoked/1"
    assert code(receive, served, before) == "trust.rolled_back/1"
    again = served.reinstatement(revocation, subject)
    perform(served.site, "statement.record", {"envelope": again.to_dict()})
    assert receive(served, export(served)).permit(subject)


def test_each_export_is_an_entry_and_has_a_larger_ledger(
    served: Any, receive: Callable[..., Trusted]
) -> None:
    sizes = [receive(served, export(served)).bundle.checkpoint.size for _ in range(3)]
    assert sizes == sorted(set(sizes))
    events = served.events("trust.exported")
    assert [event["models"] for event in events] == [[], [], []]
    # The bundle's checkpoint is the one that was kept outside.
    (kept,) = (served.site.outside).glob("*.checkpoint")
    assert parse_checkpoint(kept.read_text()).size >= sizes[-1]


def test_a_running_owner_exports_too(
    served: Any, subject: Subject, receive: Callable[..., Trusted]
) -> None:
    with owned(served) as workspace:
        data = export(served)
        assert receive(served, data).verdict(subject).allowed
        workspace.record(served.revocation(subject))
        assert not receive(served, export(served)).verdict(subject).allowed


def test_only_the_named_models_evidence_travels(
    served: Any, subject: Subject, receive: Callable[..., Trusted], code: Code
) -> None:
    with served.open() as workspace:
        other = served.submit(workspace, served.model("other.onnx", 5.0)).verdict.subject
    everything = receive(served, export(served))
    assert {item.subject.name for item in everything.bundle.evidence.statements} == {
        "scale",
        "other",
    }
    for text in ("other", str(other.digest), other.digest.hex):
        one = receive(served, export(served, text))
        assert {item.subject for item in one.bundle.evidence.statements} == {other}
        assert one.permit(other)
        assert code(one.permit, subject) == "gate.denied/1"
    assert code(export, served, "nothing") == "model.unknown/2"


def test_what_cannot_be_exported_leaves_no_entry(served: Any, code: Code, never: Digest) -> None:
    assert code(export, served, lifetime=91 * 24 * HOUR) == "trust.lifetime/2"
    assert code(export, served, lifetime=0) == "trust.lifetime/2"
    assert code(export, served, str(never)) == "model.unknown/2"
    served.layout.policy.write_bytes(served.layout.policy.read_bytes() + b"\n")
    with owned(served) as workspace:
        served.layout.policy.write_bytes(served.layout.policy.read_bytes() + b"\n")
        given = {"models": [], "lifetime_ms": HOUR}
        assert code(execute, workspace, "trust.export", given) == "policy.not_in_force/2"
    assert served.events("trust.exported") == []
    given = {"models": []}
    assert code(perform, served.site, "trust.export", given) == "control.malformed/2"


def test_a_revocation_that_is_not_on_the_record_keeps_everything_at_home(
    served: Any, subject: Subject, code: Code
) -> None:
    with served.open() as workspace:
        workspace._unrecorded = (b"a revocation that the disk had no room for",)
        given = {"models": [], "lifetime_ms": HOUR}
        assert code(execute, workspace, "trust.export", given) == "ledger.unrecorded/3"


def test_no_private_key_is_in_a_bundle(served: Any) -> None:
    data = export(served)
    from keepstone.evidence.dsse import Envelope

    assert b"PRIVATE" not in Envelope.parse(data, limit=1 << 25).payload
