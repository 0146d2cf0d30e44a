"""`keepstone harden outputs`: telling less of the scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import FILE, model_options, status_of, suite_options, wanted_model
from keepstone.cli.hardening import (
    cells,
    check_own,
    data_option,
    judged,
    member_cells,
    own_of,
    show_evaluation,
    show_problems,
    show_verdict,
    step,
    told,
)
from keepstone.cli.options import format_option
from keepstone.cli.output import say, table

if TYPE_CHECKING:
    from keepstone.lab.defences.evaluate import Evaluation
    from keepstone.lab.defences.output_evaluation import Copied, Members
    from keepstone.lab.defences.output_hardening import Hardened, Hardening
    from keepstone.lab.problem import Problem, Verdict
    from keepstone.lab.samples import Samples
    from keepstone.workspace.lab.attacking import Opened

# What each of them takes.
_HARDENINGS = {"rounded-scores": ("digits",), "top-scores": ("count",), "labels-only": ()}


@click.command("outputs")
@click.argument("model", type=click.Path(path_type=Path))
@data_option("Labelled samples that the model never saw: a thief has half of them.")
@click.option(
    "--by",
    type=click.Choice(tuple(_HARDENINGS)),
    required=True,
    help="Probabilities with few decimals, those of the likeliest classes, or labels alone.",
)
@click.option("--digits", type=int, help="With rounded-scores: decimals.  [default: 2]")
@click.option("--count", type=int, help="With top-scores: classes.  [default: 1]")
@click.option(
    "--queries",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="How many questions a thief has.",
)
@click.option("--members", type=FILE, help="Rows that the model was trained on.")
@click.option("--nonmembers", type=FILE, help="With --members: rows drawn alike that it never saw.")
@suite_options
@model_options
@format_option("json")
def command(model: Path, data: Path, **given: Any) -> int:
    """Keep back some of what MODEL tells, and see what is still copied, told and broken.

    The verdict is about copies, and about members where they are given: whether the best copy is
    worse for it, and whether fewer members are told. Against evasion it is measured as well; no
    label is protected by what is told beside it.

    Exit status: 0 pass: it gains; 1 fail: it changes nothing; 2 something given cannot be used; 3
    insufficient or invalid: no number that could be relied on.
    """
    from dataclasses import asdict

    from keepstone.lab.defences.output_hardening import Hardened
    from keepstone.lab.samples import read_samples
    from keepstone.workspace.lab.attacking import open_model

    check_own(given, _HARDENINGS)
    if (given["members"] is None) != (given["nonmembers"] is None):
        raise click.UsageError("--members and --nonmembers go together.")
    samples = read_samples(data, given["label"])
    hardening = _hardening(given)
    with open_model(model, samples, wanted_model(given, gradient=True)) as opened:
        # Less is told of what is served; who has the file knows more, and breaks it by that.
        hardened = Hardened(opened.served, hardening)
        evasion = judged(Hardened(opened.target, hardening), opened, samples, given)
        copies = _copied(hardened, opened, samples, given)
        members = _members(hardened, opened, samples, given)
    verdict, problems = _verdict(evasion, copies, members)
    document = evasion.to_dict() | {
        "verdict": verdict.value,
        "problems": [one.to_dict() for one in problems],
        "parameters": asdict(hardening),  # type: ignore[call-overload]  # all are dataclasses
        "evasion": {
            "verdict": evasion.verdict.value,
            "problems": [one.to_dict() for one in evasion.problems],
        },
        "extraction": copies.to_dict(),
        "membership": None if members is None else members.to_dict(),
        "data": str(samples.digest),
    }

    def show() -> None:
        show_verdict(verdict, hardened.name, problems)
        _show(copies, members)
        show_problems(problems)
        click.echo("\nAgainst evasion")
        show_evaluation(evasion)

    told(document, opened, given["style"], show)
    return status_of(verdict)


def _hardening(given: dict[str, Any]) -> Hardening:
    from keepstone.lab.defences.output_hardening import LabelsOnly, RoundedScores, TopScores

    made: dict[str, Any] = {kind.name: kind for kind in (RoundedScores, TopScores, LabelsOnly)}
    hardening: Hardening = made[given["by"]](**own_of(given, _HARDENINGS))
    return hardening


def _copied(hardened: Hardened, opened: Opened, samples: Samples, given: dict[str, Any]) -> Copied:
    from keepstone.lab.attacks.extraction.catalogue import attacks_with
    from keepstone.lab.attacks.extraction.fidelity import HeldOut
    from keepstone.lab.defences.output_evaluation import copied
    from keepstone.workspace.lab.attacking import halved

    kept, pool = halved(samples, given["seed"])
    bare = hardened.undefended
    x = bare.domain.fit(kept.x, kept.x)
    held_out = HeldOut.ask(bare, x, opened.classes.encode(kept.y))
    attacks = attacks_with(bare.domain.fit(pool.x, pool.x))
    with step("copies"):
        return copied(hardened, attacks, held_out, given["queries"], seed=given["seed"])


def _members(
    hardened: Hardened, opened: Opened, samples: Samples, given: dict[str, Any]
) -> Members | None:
    import numpy as np

    from keepstone.lab.defences.output_evaluation import audited
    from keepstone.lab.samples import read_samples, require_same_columns
    from keepstone.workspace.lab.attacking import require_fit
    from keepstone.workspace.lab.auditing import joined

    if given["members"] is None:
        return None
    inside, outside = (
        read_samples(given[name], given["label"]) for name in ("members", "nonmembers")
    )
    rows = joined(inside, outside)
    require_fit(rows, hardened.domain)
    require_same_columns(rows.features, samples.features, "the samples")
    x, y = hardened.domain.fit(rows.x, rows.x), opened.classes.encode(rows.y)
    return audited(hardened, x, y, np.arange(len(rows)) < len(inside))


def _verdict(
    evasion: Evaluation, copies: Copied, members: Members | None
) -> tuple[Verdict, tuple[Problem, ...]]:
    """Samples that are not the model's void it all; whatever else evasion says is its own."""
    from keepstone.lab.defences.output_evaluation import judged
    from keepstone.lab.problem import Verdict

    void = [
        one
        for one in evasion.problems
        if one.effect is Verdict.INVALID and one.code.startswith("attack.")
    ]
    if void:
        return Verdict.INVALID, tuple(void)
    return judged(copies, members)


def _show(copies: Copied, members: Members | None) -> None:
    rows = []
    for before, after in zip(copies.undefended, copies.defended, strict=True):
        shown = [
            "-" if one.agreement is None else cells(one.agreement)[0] for one in (before, after)
        ]
        marks = [" best" if one in copies.best else "" for one in (before, after)]
        rows.append((before.attack, shown[0] + marks[0], shown[1] + marks[1]))
    click.echo(table(rows, (f"copies by {copies.budget} queries", "undefended", "defended")))
    if members is None:
        return
    audits = {
        "undefended": members.undefended,
        "defended": members.defended,
        "labels alone": members.labels,
    }
    found = [(name, *member_cells(one)) for name, one in audits.items()]
    click.echo("\n" + table(found, ("members at 1 % others", "told", "low", "high")))
    for name, audit in audits.items():
        for one in audit.problems:
            say(f"{name}: {one.code}: {one.message}", mark="warn")
