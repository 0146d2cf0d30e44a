"""What an act of the demonstration is: something tried, what should happen, what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from place import Answer, Place


@dataclass(frozen=True)
class Outcome:
    """`observed` is one line of what happened; `held` is whether it is what should happen."""

    observed: str
    held: bool


@dataclass(frozen=True)
class Act:
    tried: str
    expected: str
    play: Callable[[Place], Outcome]


def act(
    acts: list[Act], tried: str, expected: str
) -> Callable[[Callable[[Place], Outcome]], Callable[[Place], Outcome]]:
    """Add the decorated function to `acts`."""

    def add(play: Callable[[Place], Outcome]) -> Callable[[Place], Outcome]:
        acts.append(Act(tried, expected, play))
        return play

    return add


def answered(answer: Answer, status: int, code: str) -> Outcome:
    """Hold an HTTP answer against the status and the problem code that should come."""
    got, _, body = answer
    try:
        problem = json.loads(body).get("code", "")
    except ValueError:
        problem = "no JSON"
    return Outcome(f"{got} {problem}".strip(), got == status and problem == code)


def ended(status: int, error: str, expected: int, code: str) -> Outcome:
    """Hold a command's exit status and error code against what should come."""
    line = next((line for line in error.splitlines() if line.startswith("error[")), "")
    found = line[6:].partition("]")[0]
    return Outcome(f"exit {status} {found}".strip(), status == expected and found == code)
