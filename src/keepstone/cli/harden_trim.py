"""`keepstone harden trim`: train without the rows that fit worst, and see what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keepstone.cli.attacking import FILE, status_of
from keepstone.cli.hardening import cells, show_problems, show_verdict
from keepstone.cli.options import format_option
from keepstone.cli.output import at_last, say, table
from keepstone.cli.progress import Steps
from keepstone.cli.training import range_options, training_of, training_options, write_if_pass


@click.command("trim")
@training_options
@click.option(
    "--trim", "share", type=float, default=0.1, show_default=True, help="The share left out."
)
@click.option(
    "--folds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="A row's loss is that of a model that was trained without its fold; 1: with it.",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="How often, at most."
)
@click.option(
    "--poisoned",
    type=float,
    default=0.1,
    show_default=True,
    help="The share of labels that the drill flips, in three ways of which two know the trimming.",
)
@click.option(
    "-o",
    "--out",
    type=FILE,
    help="Where the verdict is pass, write the trimmed model: an estimator (skops) with its"
    " contract beside it, or a torch module's weights (safetensors).",
)
@click.option(
    "--kept",
    type=FILE,
    help="Write which rows were kept: .npz with `kept`, in the data's order.",
)
@range_options
@format_option("json")
def command(data: Path, held_out: Path, **given: Any) -> int:
    """Train without the rows of the highest loss, and drill that with flipped labels.

    It certifies nothing. What counts is the accuracy that the worst poisoner leaves, with the
    trimming and without it.

    Exit status: 0 pass: it gains, whoever poisons; 1 fail: it does not; 2 something given cannot
    be used; 3 insufficient (too few held-out rows) or invalid (it gains only where the poisoner
    does not know of it, or the training does not repeat itself).
    """
    from keepstone.lab.defences.trimmed import TrimmedLoss
    from keepstone.workspace.lab.hardening_data import trim
    from keepstone.workspace.lab.hardening_files import (
        contract_beside,
        require_new,
        write_kept,
        write_target,
    )

    defence = TrimmedLoss(given["share"], given["rounds"], given["folds"])
    out: Path | None = given["out"]
    places = [] if out is None else [out, contract_beside(out)]
    require_new(*places, *([] if given["kept"] is None else [given["kept"]]))
    training = training_of(data, held_out, given)
    with Steps() as steps:
        steps.begin("drill")
        found = trim(training, defence, given["poisoned"], given["seed"], written=out is not None)
        steps.end(f"{found.trainings} trainings")
    document = found.to_dict() | {
        "train": given["train"],
        "data": str(training.data),
        "held_out": str(training.held_out),
        "classes": list(training.classes.names),
    }
    document["written"] = None
    with at_last(document, given["style"], lambda: _show(found)):
        if given["kept"] is not None:
            write_kept(given["kept"], found.trimmed.kept)
            say(f"kept {given['kept']}", mark="ok")
        written = write_if_pass(
            out, found.verdict, lambda path: write_target(path, found.trimmed.target, training)
        )
        document["written"] = None if written is None else written.to_dict()
    return status_of(found.verdict)


def _show(found: Any) -> None:
    drill = found.drill
    show_verdict(found.verdict, drill.defence.name, found.problems)
    rows = [("none", *cells(drill.clean_undefended), *cells(drill.clean, ends=True), "")]
    rows += [
        (
            one.poison,
            *cells(one.undefended),
            *cells(one.defended, ends=True),
            f"{one.caught} of {one.poisons}",
        )
        for one in drill.poisoned
    ]
    click.echo(table(rows, ("poison", "undefended", "trimmed", "low", "high", "caught")))
    worst = drill.worst
    click.echo(
        f"worst: {worst.poison} leaves {worst.defended.value:.3f}"
        f" ({worst.defended.low:.3f} to {worst.defended.high:.3f});"
        f" {int((~found.trimmed.kept).sum())} of {len(found.trimmed.kept)} rows were left out"
    )
    show_problems(found.problems)
