"""Slow inputs: what is slow is found, and what an address holds back is no number."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keepstone.contract.validate import Array
from keepstone.errors import InputError, OperationalError
from keepstone.lab.domain import Domain
from keepstone.lab.problem import Verdict
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability
from keepstone.workspace.lab.slowing import ATTACKS, Slowdown, Unhindered, slow_down

DOMAIN = Domain.of((6,), 0.0, 1.0, "float64")
ROWS = np.random.default_rng(0).uniform(0.3, 0.7, (40, 6))


@dataclass
class Working:
    """Works the longer the more features are beyond .9."""

    domain: Domain = DOMAIN
    classes: int = 2
    capabilities: frozenset[Capability] = frozenset({Capability.LABEL})
    asked: list[int] = field(default_factory=list)

    def predict(self, rows: Array) -> Answers:
        self.asked.append(len(rows))
        for _ in range(1 + 40 * int((rows > 0.9).sum())):
            np.linalg.norm(ROWS)
        return Answers(np.zeros(len(rows), np.int64))


def test_what_takes_longer_is_found_within_its_means() -> None:
    target = Working()
    asked = Slowdown(tuple(ATTACKS), 2.0, 9000, 60.0, repeats=1)
    found = slow_down(target, ROWS, asked)
    assert found.verdict is Verdict.FAIL
    told = found.to_dict()
    assert told["schema"] == "keepstone.availability/v1"
    assert told["clock"] == "processor"
    assert [one["attack"] for one in told["attacks"]] == ["sponge", "worst-latency"]
    assert all(one["ratio"]["low"] > 2 for one in told["attacks"])
    # The budget is for both together, and counts each row that was asked.
    assert sum(target.asked) == told["asked"] <= 9000
    assert all(one["asked"] <= one["budget"] == 4500 for one in told["attacks"])


def test_too_little_time_is_insufficient_and_too_few_rows_are_refused() -> None:
    asked = Slowdown(("sponge",), 2.0, 9000, 1e-9)
    found = slow_down(Working(), ROWS, asked)
    assert found.verdict is Verdict.INSUFFICIENT
    with pytest.raises(InputError, match=r"attack\.bad_budget"):
        slow_down(Working(), ROWS, Slowdown(("sponge",), 2.0, 100, 9.0))
    with pytest.raises(InputError, match=r"attack\.bad_limit"):
        slow_down(Working(), ROWS, Slowdown(("sponge",), 0.5, 9000, 9.0))


class Remote:
    """Refuses once, after so many answers; `waits` for it as long as it likes."""

    def __init__(self, after: int, *, exhausted: bool = False) -> None:
        self.refusals, self.exhausted, self._left, self._spent = 0, False, after, exhausted

    def ask(self, rows: Array) -> Answers:
        self._left -= 1
        if self._left < 0:
            self.refusals, self.exhausted = 1, self._spent
        silent = self.exhausted
        return Answers(np.full(len(rows), UNANSWERED if silent else 0))


@pytest.mark.parametrize("exhausted", [False, True])
def test_an_endpoint_that_throttles_is_insufficient(
    exhausted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keepstone.workspace.lab import slowing

    remote = Remote(700, exhausted=exhausted)
    target: Any = SimpleNamespace(
        domain=DOMAIN, classes=2, capabilities=frozenset(), predict=remote.ask, remote=remote
    )
    monkeypatch.setattr(slowing, "RemoteClassifier", SimpleNamespace)
    found = slow_down(target, ROWS, Slowdown(("worst-latency",), 1e9, 9000, 60.0))
    assert found.clock == "wall"
    assert found.verdict is Verdict.INSUFFICIENT
    assert [one.code for one in found.found[0].problems] == ["target.throttled"]
    assert found.found[0].row is None


def test_an_answer_that_came_at_once_counts() -> None:
    remote: Any = Remote(1)
    target: Any = SimpleNamespace(
        domain=DOMAIN, classes=2, capabilities=frozenset(), predict=remote.ask
    )
    unhindered = Unhindered(target, remote)
    assert unhindered.predict(ROWS[:1]).labels.tolist() == [0]
    with pytest.raises(OperationalError, match=r"target\.throttled"):
        unhindered.predict(ROWS[:1])
    # It was answered after it was waited for: the next one is timed again.
    assert unhindered.predict(ROWS[:1]).labels.tolist() == [0]
