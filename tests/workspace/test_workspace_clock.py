"""Time never runs back: what has expired stays expired, whatever the wall clock says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.subject import Subject
from keepstone.errors import DeniedError
from keepstone.workspace.clock import SteadyClock
from keepstone.workspace.operations import execute
from keepstone.workspace.reading import read_workspace

HOUR = 3_600_000
KEY = {"principal": "user:eve", "roles": ["caller"], "models": ["*"], "lifetime_ms": HOUR}


class Wall:
    now = 0

    def now_ms(self) -> int:
        return self.now


@given(st.integers(0, 1000), st.lists(st.integers(0, 1000)))
def test_it_is_the_later_of_the_wall_and_all_that_came_before(floor: int, walls: list[int]) -> None:
    wall = Wall()
    clock = SteadyClock(wall, floor)
    for number, now in enumerate(walls):
        wall.now = now
        expected = max([floor, *walls[: number + 1]])
        assert clock.now_ms() == expected
        assert clock.behind_ms == expected - now


def test_its_floor_can_be_raised_and_not_lowered() -> None:
    clock = SteadyClock(Wall(), 10)
    clock.raise_floor(5)
    assert clock.now_ms() == 10
    clock.raise_floor(20)
    assert (clock.now_ms(), clock.behind_ms) == (20, 20)


def test_a_start_begins_where_the_record_ends(home: Any) -> None:
    with home.open() as workspace:
        home.clock.now += HOUR
        workspace.record_event("tested", {})
        late = home.clock.now
    home.clock.now -= 24 * HOUR
    with home.open() as workspace:
        assert workspace.clock.now_ms() == late
        workspace.record_event("tested again", {})
        assert home.entries()[-1]["t"] == late
    with read_workspace(home.site) as view:
        assert view.now == late


def test_a_clock_set_back_revives_no_credential(home: Any, code: Callable[..., str]) -> None:
    with home.open() as workspace:
        key = execute(workspace, "keys.create", KEY)["key"]
        token = execute(workspace, "token.issue", KEY)["token"]
        home.clock.now += HOUR
        workspace.record_event("time passed", {})
    home.clock.now -= 30 * 60_000
    with home.open() as workspace:
        now = workspace.clock.now_ms()
        assert code(workspace.ring.authenticate, key, now) == "auth.expired/1"
        assert code(workspace.verifier.verify, token, now) == "auth.expired/1"
        # The wall's own time would have let both in: it is the floor that does not.
        assert workspace.ring.authenticate(key, home.clock.now).id == "user:eve"
        assert workspace.verifier.verify(token, home.clock.now).id == "user:eve"


def test_a_clock_set_back_revives_no_evidence(served: Any, subject: Subject) -> None:
    served.edit_policy(
        "[admission]", '[[require]]\nevidence = "approval"\nrole = "approver"\n\n[admission]'
    )
    with served.open() as workspace:
        workspace.record(served.approval(subject, expires=served.clock.now + HOUR))
        assert served.submit(workspace).verdict.allowed
        served.clock.now += HOUR
        workspace.record_event("time passed", {})
    served.clock.now -= 30 * 60_000
    for _ in range(2):
        with served.open() as workspace, pytest.raises(DeniedError, match="is not admitted"):
            served.submit(workspace)


def test_a_statement_from_the_future_does_not_count_yet(served: Any, subject: Subject) -> None:
    served.edit_policy(
        "[admission]", '[[require]]\nevidence = "approval"\nrole = "approver"\n\n[admission]'
    )
    served.clock.now += 24 * HOUR
    ahead = served.approval(subject)
    served.clock.now -= 24 * HOUR
    with served.open() as workspace:
        workspace.record(ahead)
        with pytest.raises(DeniedError, match="future"):
            served.submit(workspace)
