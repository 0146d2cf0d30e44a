"""Put a fingerprint's questions to a suspect: in batches, in an order that gives nothing away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keepstone.lab.ownership.crossings import Answer, Ask, Crossing
from keepstone.lab.ownership.secret import Secret


def ask_all(
    ask: Ask, crossings: Sequence[Crossing], secret: Secret, turn: int, batch: int
) -> list[bool | None]:
    """Whether each crossing shows, None where the suspect left one of its rows unanswered.

    Asks as `answers_to` does.
    """
    given = answers_to(ask, crossings, secret, turn, batch)
    return [one.matches(each) for one, each in zip(crossings, given, strict=True)]


def answers_to(
    ask: Ask, crossings: Sequence[Crossing], secret: Secret, turn: int, batch: int
) -> list[list[Answer]]:
    """What the suspect answers to the rows of each crossing.

    Rows that belong together are far apart in the drawn order: `turn` makes it another one each
    time. A suspect that stops answering is asked nothing more.
    """
    rows = np.concatenate([one.rows for one in crossings])
    order = secret.order("turn", turn, len(rows))
    answers: list[Answer] = [None] * len(rows)
    for start in range(0, len(rows), batch):
        chosen = order[start : start + batch]
        given = ask(rows[chosen])
        for place, answer in zip(chosen, given, strict=True):
            answers[place] = answer
        if all(answer is None for answer in given):
            break
    found, at = [], 0
    for one in crossings:
        found.append(answers[at : at + len(one.rows)])
        at += len(one.rows)
    return found
