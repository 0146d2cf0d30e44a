"""What the defences share on the command line: how what they came to is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from keepstone.cli.output import say, table

if TYPE_CHECKING:
    from keepstone.lab.defences.certificate import Certificates
    from keepstone.lab.defences.evaluate import Evaluation
    from keepstone.lab.metrics.wilson import Share
    from keepstone.lab.problem import Problem, Verdict


def show_evaluation(found: Evaluation) -> None:
    """The accuracies beside each other: what counts is `defended`."""
    show_verdict(found.verdict, found.defence, found.problems)
    none = "clean", "", *cells(found.clean_undefended), "", *cells(found.clean, ends=True)
    norm = found.question.norm.name
    rows = [none] + [
        (
            norm,
            f"{one.eps:g}",
            *cells(one.undefended),
            *cells(one.plain),
            *cells(one.defended, ends=True),
        )
        for one in found.robust
    ]
    head = ("norm", "eps", "undefended", "plain attack", "defended", "low", "high")
    click.echo(table(rows, head))
    show_problems(found.problems)
    for name, run in (
        ("undefended", found.undefended),
        ("plain", found.plain),
        ("adaptive", found.adaptive),
    ):
        for missed in run.not_evaluated:
            say(f"not evaluated ({name}): {missed}", mark="warn")


def show_certificates(found: Certificates, sizes: Sequence[float]) -> None:
    """The certified accuracy at each size."""
    show_verdict(found.verdict, found.method, found.problems)
    rows = [(found.unit, f"{one:g}", *cells(found.accuracy_at(one), ends=True)) for one in sizes]
    click.echo(table(rows, ("unit", "size", "certified", "low", "high")))
    show_problems(found.problems)


def show_verdict(verdict: Verdict, defence: str, problems: Iterable[Problem]) -> None:
    """The verdict and, in plain words, whether the defence masks."""
    masks = any(one.code == "defence.masks" for one in problems)
    click.echo(f"{verdict.value}: {defence}{' masks, and does no more' if masks else ''}")


def show_problems(problems: Iterable[Problem]) -> None:
    for one in problems:
        say(f"{one.code}: {one.message}", mark="warn")


def cells(found: Share, *, ends: bool = False) -> tuple[str, ...]:
    """A share in a table, with the ends of its interval if they are asked for."""
    shown = (found.value, found.low, found.high) if ends else (found.value,)
    return tuple(f"{one:.3f}" for one in shown)
