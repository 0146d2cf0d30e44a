"""Whether a served model may go on being served, at every moment, and who may say so."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, OperationalError
from keepstone.gateway.endpoint import Endpoint
from keepstone.workspace import standing as room
from keepstone.workspace.admit import Admitted
from keepstone.workspace.opened import Workspace
from keepstone.workspace.standing import Keeper, Standing

MINUTE = 60_000
HOUR = 60 * MINUTE


@contextlib.contextmanager
def serving(served: Any) -> Any:
    """The workspace, the model's endpoint, and who watches over it."""
    with served.open() as workspace:
        admitted = served.submit(workspace)
        endpoint = served.endpoint(admitted)
        yield workspace, endpoint, Standing(workspace, admitted, endpoint)


def _now(workspace: Workspace, endpoint: Endpoint) -> str | None:
    return endpoint.admitted(workspace.clock.now_ms())


def test_a_model_is_served_until_it_is_revoked(served: Any, subject: Subject) -> None:
    with serving(served) as (workspace, endpoint, standing):
        assert _now(workspace, endpoint) is not None
        workspace.record(served.approval(subject))
        assert _now(workspace, endpoint) is not None
        workspace.record(served.revocation(subject))
        assert _now(workspace, endpoint) is None
        assert endpoint.refusal == "model.revoked"
        standing.renew_if_due()
        assert _now(workspace, endpoint) is None


def test_the_revocation_of_something_else_stops_nothing(served: Any, never: Any) -> None:
    with serving(served) as (workspace, endpoint, _):
        workspace.record(served.revocation(Subject("other", never)))
        assert _now(workspace, endpoint) is not None


def test_a_reinstated_model_is_served_again_without_a_new_start(
    served: Any, subject: Subject
) -> None:
    revocation = served.revocation(subject)
    with serving(served) as (workspace, endpoint, standing):
        workspace.record(revocation)
        workspace.record(served.reinstatement(revocation, subject))
        # Looking again never admits; the keeper's next round does.
        assert _now(workspace, endpoint) is None
        standing.renew_if_due()
        assert _now(workspace, endpoint) is not None


def test_an_admission_ends_unless_it_is_renewed(served: Any) -> None:
    with serving(served) as (workspace, endpoint, standing):
        first = _now(workspace, endpoint)
        served.clock.now += HOUR - 1
        assert _now(workspace, endpoint) == first
        served.clock.now += 1
        assert _now(workspace, endpoint) is None
        standing.renew_if_due()
        assert _now(workspace, endpoint) not in (None, first)


def test_an_admission_is_renewed_two_thirds_into_its_life_and_not_before(served: Any) -> None:
    with serving(served) as (workspace, endpoint, standing):
        first, size = _now(workspace, endpoint), workspace.ledger.durable_size
        served.clock.now += 40 * MINUTE - 1
        standing.renew_if_due()
        assert (_now(workspace, endpoint), workspace.ledger.durable_size) == (first, size)
        served.clock.now += 1
        standing.renew_if_due()
        second = _now(workspace, endpoint)
        assert second not in (None, first)
        # Each admission is on the record, and the model it is of.
        assert workspace.ledger.durable_size == size + 1


def test_a_renewal_that_cannot_be_recorded_admits_nothing(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise OperationalError("ledger.disk_full", "Full.")

    with serving(served) as (workspace, endpoint, standing):
        served.clock.now += HOUR
        monkeypatch.setattr(Workspace, "_append", fail)
        with pytest.raises(OperationalError):
            standing.renew_if_due()
        assert _now(workspace, endpoint) is None


def test_evidence_that_expires_ends_the_serving(served: Any, subject: Subject) -> None:
    served.edit_policy(
        '[admission]\nlifetime = "1h"',
        '[[require]]\nevidence = "approval"\nrole = "approver"\n\n[admission]\nlifetime = "1h"',
    )
    with served.open() as workspace:
        workspace.record(served.approval(subject, expires=served.clock.now + 10 * MINUTE))
        admitted = served.submit(workspace)
        endpoint = served.endpoint(admitted)
        standing = Standing(workspace, admitted, endpoint)
        # The admission never outlives what it rests on.
        assert admitted.admission.expires == served.clock.now + 10 * MINUTE
        served.clock.now += 10 * MINUTE - 1
        assert _now(workspace, endpoint) is not None
        served.clock.now += 1
        assert _now(workspace, endpoint) is None
        standing.renew_if_due()
        assert _now(workspace, endpoint) is None
        assert endpoint.refusal == "model.not_admitted"
        # Setting the clock back does not bring it back to life.
        served.clock.now -= 20 * MINUTE
        standing.renew_if_due()
        assert _now(workspace, endpoint) is None
        with pytest.raises(DeniedError):
            served.submit(workspace)


def test_a_policy_that_asks_for_more_stops_the_serving_at_once(
    served: Any, subject: Subject
) -> None:
    with serving(served) as (workspace, endpoint, standing):
        served.edit_policy(
            "[admission]", '[[require]]\nevidence = "approval"\nrole = "approver"\n\n[admission]'
        )
        workspace.reload_policy()
        assert _now(workspace, endpoint) is None
        standing.renew_if_due()
        assert _now(workspace, endpoint) is None
        workspace.record(served.approval(subject))
        standing.renew_if_due()
        assert _now(workspace, endpoint) is not None


def test_an_admission_of_another_policy_is_renewed_under_the_new_one(served: Any) -> None:
    with serving(served) as (workspace, endpoint, standing):
        first = _now(workspace, endpoint)
        served.edit_policy("principal_burst = 2000", "principal_burst = 3")
        workspace.reload_policy()
        assert _now(workspace, endpoint) == first
        standing.renew_if_due()
        assert _now(workspace, endpoint) not in (None, first)


def test_what_cannot_be_decided_stops_the_serving(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*given: object) -> None:
        raise OperationalError("evidence.unreadable", "An entry cannot be read.")

    with serving(served) as (workspace, endpoint, _):
        monkeypatch.setattr(room, "judge", fail)
        with caplog.at_level(logging.ERROR):
            workspace.record(served.approval(subject))
        assert _now(workspace, endpoint) is None
        assert "serving stops" in caplog.text


# Races: a revocation between the gate's yes and the moment it takes effect


def test_a_revocation_while_the_model_loads_is_not_missed(
    served: Any, subject: Subject, code: Callable[..., str]
) -> None:
    with served.open() as workspace:
        admitted = served.submit(workspace)
        workspace.record(served.revocation(subject))
        endpoint = served.endpoint(admitted)
        assert code(Standing, workspace, admitted, endpoint) == "gate.revoked/1"
        assert _now(workspace, endpoint) is None


def test_a_revocation_while_an_admission_is_renewed_is_not_undone_by_it(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = room.issue

    with serving(served) as (workspace, endpoint, standing):

        def revoke_meanwhile(*given: Any) -> Any:
            issued = issue(*given)
            workspace.record(served.revocation(subject))
            assert _now(workspace, endpoint) is None
            return issued

        served.clock.now += HOUR
        monkeypatch.setattr(room, "issue", revoke_meanwhile)
        standing.renew_if_due()
        assert _now(workspace, endpoint) is None


def test_no_interleaving_serves_what_is_revoked(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper is held at its last look, with a yes in its hand, while a revocation comes."""
    judge = room.judge
    looking, go = threading.Event(), threading.Event()

    with serving(served) as (workspace, endpoint, standing):
        keeper: list[int] = []

        def held(*given: Any) -> Any:
            verdict = judge(*given)
            if (
                threading.get_ident() in keeper
                and not looking.is_set()
                and standing._deciding.locked()
            ):
                looking.set()
                assert go.wait(10)
            return verdict

        def renew() -> None:
            keeper.append(threading.get_ident())
            standing.renew_if_due()

        served.clock.now += HOUR
        monkeypatch.setattr(room, "judge", held)
        renewing = threading.Thread(target=renew)
        renewing.start()
        assert looking.wait(10)
        revoking = threading.Thread(target=workspace.record, args=(served.revocation(subject),))
        revoking.start()
        time.sleep(0.1)
        go.set()
        renewing.join()
        revoking.join()
        assert _now(workspace, endpoint) is None
        assert endpoint.refusal == "model.revoked"


# The keeper


def test_the_keeper_does_its_chores_and_survives_them(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(room, "_KEEPER_S", 0.01)
    done: dict[str, int] = {"often": 0, "seldom": 0}
    enough = threading.Event()

    def often() -> None:
        done["often"] += 1
        if done["often"] == 1:
            raise OperationalError("witness.unwritable", "No room outside.")
        if done["often"] == 2:
            raise ZeroDivisionError
        if done["often"] > 12:
            enough.set()

    def seldom() -> None:
        done["seldom"] += 1

    keeper = Keeper([(0.0, often), (0.1, seldom)])
    assert enough.wait(10)
    keeper.close()
    seen = dict(done)
    assert 1 <= seen["seldom"] <= seen["often"] // 8
    assert "No room outside." in caplog.text
    assert "a chore failed" in caplog.text
    time.sleep(0.05)
    assert done == seen


def test_who_admits_nothing_gives_no_admission(served: Any, subject: Subject) -> None:
    """An `Admitted` for one workspace's policy is worth nothing after the policy says no."""
    with served.open() as workspace:
        admitted: Admitted = served.submit(workspace)
        served.edit_policy(
            "[admission]", '[[require]]\nevidence = "training"\nrole = "publisher"\n\n[admission]'
        )
        workspace.reload_policy()
        with pytest.raises(DeniedError) as caught:
            Standing(workspace, admitted, served.endpoint(admitted))
        assert caught.value.code == "gate.denied"
