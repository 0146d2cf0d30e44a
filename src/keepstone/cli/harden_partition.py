"""`keepstone harden partition`: a certificate against poisoned training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import (
    FILE,
    check_places,
    check_statement,
    record,
    statement_options,
    status_of,
)
from keepstone.cli.hardening import show_certificates
from keepstone.cli.options import format_option, workspace_option
from keepstone.cli.output import at_last, say, table
from keepstone.cli.progress import Steps
from keepstone.cli.training import range_options, training_of, training_options, write_if_pass

if TYPE_CHECKING:
    from keepstone.core.subject import Subject
    from keepstone.evidence.dsse import Envelope
    from keepstone.identity.signing import Signatory
    from keepstone.workspace.lab.hardening_data import Bar, Partitioned
    from keepstone.workspace.lab.hardening_files import Written
    from keepstone.workspace.lab.training import Training


class BarType(click.ParamType[tuple[int, float]]):
    """`ACCURACY@POISONS`: what is enough."""

    name = "ACCURACY@POISONS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, float]:
        least, _, poisons = str(value).partition("@")
        try:
            return int(poisons), float(least)
        except ValueError:
            self.fail(f"{value!r} is not ACCURACY@POISONS, such as 0.8@5", param, ctx)


@click.command("partition")
@training_options
@click.option(
    "--k",
    type=click.IntRange(1, 10_000),
    default=25,
    show_default=True,
    help="How many partitions, and models, there are: more certify more, and know less.",
)
@click.option(
    "--at-least",
    "bars",
    multiple=True,
    type=BarType(),
    help="The certified accuracy that is enough at so many poisons: the lower end of its interval"
    " has to reach it. May be given again.",
)
@click.option(
    "--poisons",
    type=click.IntRange(0, 10_000),
    help="For how many poisons it is told.  [default: as many as any prediction withstands]",
)
@click.option(
    "--attacked",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many held-out rows are attacked by one who knows the partitions.",
)
@click.option(
    "-o",
    "--out",
    type=FILE,
    help="Where the verdict is pass, write the vote as one scikit-learn model (skops) that the"
    " vault opens, with its contract beside it.",
)
@click.option(
    "--keep", is_flag=True, help="With -o: write the vote whatever the verdict; --as says it."
)
@range_options
@statement_options
@workspace_option
@format_option("json")
def command(data: Path, held_out: Path, **given: Any) -> int:
    """Train a vote of models on parts of the data, and certify how many poisons it withstands.

    A poison is a row that is inserted, removed or labelled otherwise. Before a number is told, rows
    are attacked by poison that knows the partitions; a certificate that this breaks makes all of
    them invalid. With --as what is certified becomes evidence about the file that is written.

    Exit status: 0 pass; 1 fail: less than --at-least; 2 something given cannot be used; 3
    insufficient (too few held-out rows) or invalid (a training that does not repeat itself).
    """
    from keepstone.workspace.lab.hardening_data import Bar
    from keepstone.workspace.lab.hardening_files import write_vote

    bars = tuple(Bar(*bar) for bar in given["bars"])
    _check(bars, given)
    training = training_of(data, held_out, given)
    found = _run(training, bars, given)
    document = found.to_dict() | {
        "train": given["train"],
        "data": str(training.data),
        "held_out": str(training.held_out),
    }
    document["written"] = None
    with at_last(document, given["style"], lambda: _show(found)):
        written = write_if_pass(
            given["out"],
            found.verdict,
            lambda path: write_vote(path, found.aggregate, training),
            keep=given["keep"],
        )
        document["written"] = None if written is None else written.to_dict()
        if written is None and given["key"] is not None:
            say("nothing is stated: there is no file to speak of", mark="warn")
        elif written is not None and given["key"] is not None:
            document["statement"] = _state(written, found, training, bars, document, given)
    return status_of(found.verdict)


def _check(bars: tuple[Bar, ...], given: dict[str, Any]) -> None:
    """Before anything is trained: that what comes of it has where to go."""
    from keepstone.workspace.lab.certifying import require_statable
    from keepstone.workspace.lab.hardening_files import contract_beside, require_new

    out: Path | None = given["out"]
    check_statement(given, "poisoning")
    if given["key"] is not None:
        require_statable(out, bars)
    if out is None and given["keep"]:
        raise click.UsageError("--keep goes with -o.")
    check_places(given)
    if out is not None:
        require_new(out, contract_beside(out))
        if given["statement"] is not None and given["statement"].absolute() in (
            out.absolute(),
            contract_beside(out).absolute(),
        ):
            raise click.UsageError("--statement is appended to a file of its own.")


def _run(training: Training, bars: tuple[Bar, ...], given: dict[str, Any]) -> Partitioned:
    from keepstone.lab.defences.partition import Partition
    from keepstone.workspace.lab.hardening_data import partition

    made = Partition(given["k"], given["seed"])
    with Steps() as steps:
        return partition(
            training,
            made,
            bars,
            given["poisons"],
            given["attacked"],
            written=given["out"] is not None,
            begins=steps.begin,
            ended=steps.end,
        )


def _state(
    written: Written,
    found: Partitioned,
    training: Training,
    bars: tuple[Bar, ...],
    report: dict[str, Any],
    given: dict[str, Any],
) -> dict[str, Any]:
    from keepstone.core.subject import Subject
    from keepstone.workspace.intake import name_of
    from keepstone.workspace.lab.certifying import state

    def make(subject: Subject, key: Signatory, now: int) -> Envelope:
        told = {"report": report, "now": now, "lifetime_ms": given["lifetime"]}
        return state(subject, found, training, bars, key, **told)

    return record(Subject(name_of(written.path), written.digest), make, given)


def _show(found: Partitioned) -> None:
    show_certificates(found.certificates, found.sizes)
    click.echo(f"one model of all rows is right for {found.undefended.value:.3f}")
    rows = [
        (
            one.way,
            str(one.poisons),
            f"{one.left.value:.3f}",
            f"{one.left.low:.3f}",
            f"{one.left.high:.3f}",
            f"{one.broken} of {one.certified}",
        )
        for one in found.attack.found
    ]
    click.echo(table(rows, ("attack", "poisons", "left", "low", "high", "certificates broken")))
