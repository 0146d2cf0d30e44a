"""`keepstone attack poisoning`: what a training function makes of data that somebody poisoned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import status_of
from keepstone.cli.options import format_option
from keepstone.cli.output import at_last, say, table
from keepstone.cli.progress import Steps
from keepstone.cli.training import range_options, training_of, training_options

if TYPE_CHECKING:
    from keepstone.lab.attacks.poisoning.measure import Drill
    from keepstone.workspace.lab.drilling import Drills, Poisoning
    from keepstone.workspace.lab.training import Training

_WAYS = ("badnets", "label-flip", "clean-label", "feedback")


class SetType(click.ParamType[tuple[str, float]]):
    """`FEATURE=VALUE`: one feature of a trigger."""

    name = "FEATURE=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        feature, _, number = str(value).rpartition("=")
        try:
            found = feature, float(number)
        except ValueError:
            self.fail(f"{value!r} is not FEATURE=VALUE, such as age=99", param, ctx)
        if not feature:
            self.fail(f"{value!r} names no feature", param, ctx)
        return found


@click.command("poisoning")
@training_options
@click.option(
    "--by",
    "ways",
    multiple=True,
    type=click.Choice([*_WAYS, "all"]),
    default=("all",),
    show_default=True,
    help="How it is poisoned; may be given again.",
)
@click.option(
    "--share", type=float, default=0.05, show_default=True, help="The share of rows it poisons."
)
@click.option(
    "--target-class", "target", help="What the attacker wants served.  [default: the commonest]"
)
@click.option(
    "--victim-class",
    "victim",
    help="Whose rows it is wanted for.  [default: every other class's; of feedback the commonest]",
)
@click.option(
    "--trigger",
    "features",
    multiple=True,
    type=SetType(),
    help="A feature of the trigger, by its name or its place from 0 on; may be given again."
    "  [default: a square in a picture's corner, or as many features drawn]",
)
@click.option(
    "--side",
    type=click.IntRange(1),
    help="How large that square is.  [default: 3; of rows that are no picture 1]",
)
@click.option(
    "--level",
    type=float,
    default=1.0,
    show_default=True,
    help="Where in its range each of its features is set: 0 low, 1 high.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="How often it is drawn and trained anew; the worst counts.",
)
@click.option(
    "--at-most",
    type=float,
    default=0.1,
    show_default=True,
    help="The share of rows of interest that the attacker may get: the upper end of its interval"
    " has to stay below.",
)
@click.option(
    "--drop-at-most",
    type=float,
    help="How far the accuracy on clean rows may fall, as a share; flips without a target are"
    " tried then, too.",
)
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the poisoned data sets into this folder: .npz with x, y, and which are poisoned.",
)
@range_options
@format_option("json")
def command(data: Path, held_out: Path, **given: Any) -> int:
    """Poison the rows that a training function is given, and count what the attacker gets.

    For each seed two models are trained, with the poison and without. Both are asked for rows that
    neither was trained on: as they are, and as the attacker would have them served.

    Exit status: 0 pass; 1 fail; 2 something given cannot be used; 3 insufficient: too few rows or
    seeds, or a training that learns nothing or does not repeat itself.
    """
    from keepstone.workspace.lab.drilling import require_empty, write_sets

    if given["folder"] is not None:
        require_empty(given["folder"])
    training = training_of(data, held_out, given)
    asked = _asked(training, given)
    found = _run(training, asked)
    document = found.to_dict() | {
        "train": given["train"],
        "data": str(training.data),
        "held_out": str(training.held_out),
    }
    with at_last(document, given["style"], lambda: _show(found)):
        if given["folder"] is not None:
            document["written"] = write_sets(training, asked, given["folder"])
            say(f"written {given['folder']}", mark="ok")
    return status_of(found.verdict)


def _asked(training: Training, given: dict[str, Any]) -> Poisoning:
    import numpy as np

    from keepstone.lab.attacks.poisoning.measure import Limits
    from keepstone.workspace.lab.drilling import Poisoning

    def place(name: str | None) -> int | None:
        return None if name is None else int(training.classes.encode(np.array([name]))[0])

    ways = _WAYS if "all" in given["ways"] else tuple(dict.fromkeys(given["ways"]))
    return Poisoning(
        ways,
        given["share"],
        Limits(given["at_most"], given["drop_at_most"]),
        place(given["target"]),
        place(given["victim"]),
        given["side"] or (3 if given["shape"] else 1),
        given["level"],
        given["shape"] or (),
        _features(given["features"], training.features),
        tuple(range(given["seed"], given["seed"] + given["seeds"])),
    )


def _features(
    given: tuple[tuple[str, float], ...], names: tuple[str, ...]
) -> tuple[tuple[int, float], ...]:
    from keepstone.errors import InputError

    found = []
    for name, value in given:
        if name in names:
            found.append((names.index(name), value))
        elif name.isascii() and name.isdigit():
            found.append((int(name[:9]), value))
        else:
            raise InputError(
                "attack.bad_trigger",
                f"There is no such trigger: the data has no feature {name[:64]!r}.",
                "Name a column, or its place from 0 on.",
            )
    return tuple(found)


def _run(training: Training, asked: Poisoning) -> Drills:
    from keepstone.workspace.lab.drilling import run_drills

    with Steps() as steps:

        def ended(found: Drill) -> None:
            steps.end(f"{found.verdict.value}, {_success(found)[0]} served as wanted")

        return run_drills(training, asked, steps.begin, ended)


def _show(found: Drills) -> None:
    click.echo(
        f"{found.verdict.value}: {found.share:.1%} of the rows poisoned, to be served"
        f" {found.names[found.target]!r}"
    )
    rows = []
    for name, one in zip(found.ways, found.drills, strict=True):
        natural = [trial.natural for trial in one.trials if trial.natural is not None]
        rows.append(
            (
                name,
                *_success(one),
                f"{max(share.value for share in natural):.3f}" if natural else "-",
                f"{min(trial.before.value for trial in one.trials):.3f}",
                f"{min(trial.after.value for trial in one.trials):.3f}",
                one.verdict.value,
            )
        )
    head = ("poison", "served", "low", "high", "without it", "accuracy", "poisoned", "")
    click.echo(table(rows, head))
    for one in found.drills:
        for problem in one.problems:
            say(f"{one.attack}: {problem.code}: {problem.message}", mark="warn")
    for problem in found.problems:
        say(f"{problem.code}: {problem.message}", mark="warn")


def _success(found: Drill) -> tuple[str, str, str]:
    worst = found.worst
    if worst is None:
        return ("-", "-", "-")
    return (f"{worst.value:.3f}", f"{worst.low:.3f}", f"{worst.high:.3f}")
