"""What every command shares that calls the caller's own training function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keepstone.cli.attacking import FILE
from keepstone.cli.duration import DURATION
from keepstone.cli.output import say

if TYPE_CHECKING:
    from pathlib import Path

    from keepstone.lab.problem import Verdict
    from keepstone.workspace.lab.hardening_files import Written
    from keepstone.workspace.lab.training import Training

F = TypeVar("F", bound=Callable[..., object])


class ShapeType(click.ParamType[tuple[int, ...]]):
    """`8,8` or `1,28,28`: the shape of one row that is a picture."""

    name = "H,W"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.isascii() and part.isdigit() and 0 < int(part) < 1 << 24 for part in parts):
            self.fail(f"{value!r} is not a shape, such as 28,28 or 3,32,32", param, ctx)
        return tuple(map(int, parts))


def training_options(function: F) -> F:
    """The function, and its two files."""
    for option in (
        patience_option,
        click.option(
            "--held-out",
            required=True,
            type=FILE,
            help="Rows that are never trained on, drawn alike.",
        ),
        click.option(
            "--data",
            required=True,
            type=FILE,
            help="Labelled rows to train on: .npz with x and y, CSV or Parquet.",
        ),
        click.option(
            "--train",
            required=True,
            help="Your code that trains a model, package.module:function of x, y and a seed; it"
            " returns an estimator or a torch module.",
        ),
    ):
        function = option(function)
    return function


def patience_option(function: F) -> F:
    return click.option(
        "--patience",
        type=DURATION,
        default="1h",
        show_default=True,
        help="How long one training may take.",
    )(function)


def range_options(function: F) -> F:
    """How the rows are read, and what else could have been in them."""
    for option in (
        click.option(
            "--shape",
            type=ShapeType(),
            help="The shape of a picture, whose rows are flat: a torch module is asked with it.",
        ),
        click.option(
            "--high", type=float, help="The greatest value.  [default: the greatest in the files]"
        ),
        click.option(
            "--low",
            type=float,
            help="The least value of an input.  [default: the least in the"
            " files: of each feature, or with --shape of all]",
        ),
        click.option("--classes", help="The classes' names, in the order of their numbers: a,b,c."),
        click.option(
            "--label",
            help="The column, or the array, of labels.  [default: y, label, target or class]",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**31 - 1),
            default=0,
            show_default=True,
            help="What is drawn, and trained, by.",
        ),
    ):
        function = option(function)
    return function


def training_of(data: Path, held_out: Path, given: dict[str, Any]) -> Training:
    """The function that `--train` names, with what it is tried on.

    Raises as `read_samples` and `open_training` do.
    """
    from keepstone.lab.samples import read_samples
    from keepstone.workspace.lab.attacking import Wanted
    from keepstone.workspace.lab.training import Given, open_training

    classes = tuple(given["classes"].split(",")) if given["classes"] else ()
    asked = Given(
        given["train"],
        read_samples(data, given["label"]),
        read_samples(held_out, given["label"]),
        Wanted(None, given["low"], given["high"], classes),
        given["shape"] or (),
        given["patience"] / 1000,
    )
    return open_training(asked, given["seed"])


def write_if_pass(
    path: Path | None,
    verdict: Verdict,
    write: Callable[[Path], Written],
    *,
    keep: bool | None = None,
) -> Written | None:
    """What was written, if anything was to be, and the verdict lets it; or `keep`, whatever it is.

    None: the command has no such option.
    """
    from keepstone.lab.problem import Verdict

    if path is None:
        return None
    if verdict is not Verdict.PASS and not keep:
        hint = "" if keep is None else " (--keep)"
        say(f"The verdict is {verdict.value}: {path} is not written{hint}.", mark="warn")
        return None
    found = write(path)
    say(f"written {path}", mark="ok")
    if found.contract is not None:
        say(f"serve it with: keepstone up {path} --contract {found.contract}")
    return found
