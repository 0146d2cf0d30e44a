"""Say under a signature what a vote of partitions withstands of poison in its training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.poisoning import MAX_BARS, MAX_SIZES, Enough, Poisoning, Within
from keepstone.evidence.statement import make_statement
from keepstone.identity.signing import Signatory
from keepstone.lab.problem import Verdict
from keepstone.workspace.lab.attacking import measured, report_digest
from keepstone.workspace.lab.hardening_data import Bar, Partitioned
from keepstone.workspace.lab.training import Training


def state(
    subject: Subject,
    found: Partitioned,
    training: Training,
    bars: tuple[Bar, ...],
    key: Signatory,
    *,
    report: dict[str, Any],
    now: int,
    lifetime_ms: int,
) -> Envelope:
    """Sign, with `key`, what is certified of the vote that was written as `subject`.

    `report` is the JSON that is told of it; valid for `lifetime_ms`.
    """
    made, certificates, attacks = found.aggregate.made, found.certificates, found.attack.found
    effects = {problem.effect for problem in certificates.problems}
    asked = strictest(bars)
    said = Poisoning(
        made=Made(TOOL, now, now + lifetime_ms),
        verdict=found.verdict.value,
        defence=certificates.method,
        partitions=made.k,
        within=tuple(
            Within(poisons, measured(certificates.accuracy_at(poisons)))
            for poisons in stated_sizes(found.sizes, {bar.poisons for bar in asked})
        ),
        enough=tuple(Enough(bar.poisons, bar.least) for bar in asked),
        undefended=measured(found.undefended),
        attacked=min((one.left.n for one in attacks), default=0),
        certificates=sum(one.certified for one in attacks),
        broken=sum(one.broken for one in attacks),
        trainings=found.trainings,
        seed=made.seed,
        sufficient=Verdict.INSUFFICIENT not in effects,
        data=training.data,
        held_out=training.held_out,
        report=report_digest(report),
    )
    return make_statement(subject, said, key)


def require_statable(path: Path | None, bars: tuple[Bar, ...]) -> None:
    """Before anything is trained: that there will be a file to speak of, and room to say it.

    Raises InputError `defence.no_file`, `defence.too_many_bars`.
    """
    if path is None:
        raise InputError(
            "defence.no_file",
            "A statement is about a file, and none is to be written.",
            "Say with -o where the vote goes, or leave out --as.",
        )
    if len(strictest(bars)) > MAX_BARS:
        raise InputError(
            "defence.too_many_bars",
            f"A statement has room for what is enough at {MAX_BARS} numbers of poisons.",
            "Give --at-least less often; the statement tells the others all the same.",
        )


def strictest(bars: tuple[Bar, ...]) -> tuple[Bar, ...]:
    """The highest bar at each number of poisons, ascending."""
    found: dict[int, float] = {}
    for bar in bars:
        found[bar.poisons] = max(bar.least, found.get(bar.poisons, 0.0))
    return tuple(Bar(*one) for one in sorted(found.items()))


def stated_sizes(sizes: tuple[int, ...], asked: set[int]) -> tuple[int, ...]:
    """The numbers of poisons that a statement has room for: those that are `asked`, and of the
    others some all over. What lies between them is vouched for by the next greater one."""
    others = [size for size in sizes if size not in asked]
    room = MAX_SIZES - len(asked)
    if len(others) > room:
        # The first and the last are among them.
        places = {round(at * (len(others) - 1) / (room - 1)) for at in range(room)}
        others = [others[place] for place in sorted(places)]
    return tuple(sorted({*others, *asked}))
