"""`keepstone attack membership`: how many of the rows a model was trained on it gives away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import (
    FILE,
    check_options,
    model_options,
    record,
    statement_options,
    status_of,
    wanted_model,
)
from keepstone.cli.attacking_report import (
    of_same_model,
    others_given,
    report_options,
    write_curves_report,
)
from keepstone.cli.options import format_option, workspace_option
from keepstone.cli.output import at_last, say, table
from keepstone.cli.training import patience_option

if TYPE_CHECKING:
    from keepstone.core.subject import Subject
    from keepstone.evidence.dsse import Envelope
    from keepstone.identity.signing import Signatory
    from keepstone.lab.attacks.privacy.membership import Membership

_ATTACKS = ("loss-threshold", "lira", "rmia", "conditional-lira")


class LimitType(click.ParamType[tuple[float, float]]):
    """`TPR@FPR`: the share of members that may be told at a false-positive rate."""

    name = "TPR@FPR"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        most, _, rate = str(value).partition("@")
        try:
            found = float(rate), float(most)
        except ValueError:
            self.fail(f"{value!r} is not TPR@FPR, such as 0.1@0.01", param, ctx)
        if not (0 < found[0] < 1 and 0 <= found[1] <= 1):
            self.fail(f"{value!r} is not a share at a rate between 0 and 1", param, ctx)
        return found


@click.command("membership")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--members", required=True, type=FILE, help="Rows that the model was trained on.")
@click.option("--nonmembers", required=True, type=FILE, help="Rows drawn alike that it never saw.")
@click.option(
    "--at-most",
    "limits",
    multiple=True,
    type=LimitType(),
    default=("0.1@0.01",),
    show_default=True,
    help="The share of members that may be told where so many others are accused; the upper end"
    " of its interval has to stay below. May be given again.",
)
@click.option(
    "--attack",
    type=click.Choice(_ATTACKS),
    help="How they are told.  [default: conditional-lira with 4 shadow models or more, rmia with 2,"
    " else loss-threshold]",
)
@click.option(
    "--train",
    help="Your code that trains such a model, package.module:function of x, y and a seed: shadow"
    " models are made by it.",
)
@click.option("--shadows", type=int, default=0, help="How many shadow models: 4 for a CI, 64 else.")
@click.option("--kept", type=FILE, help="A file that keeps what shadow models said.")
@patience_option
@model_options
@report_options
@statement_options
@workspace_option
@format_option("json")
def command(target: Path, members: Path, nonmembers: Path, **given: Any) -> int:
    """Tell members from others by what the model in TARGET says of them, and count.

    The headline is how many members are told while almost nobody is accused wrongly, never an
    accuracy. Without shadow models only the crudest attack can be run, which passes no model.

    Exit status: 0 pass; 1 fail; 2 something given cannot be used; 3 insufficient: too few rows,
    answers that nothing can be told from, no shadow models or such as are not like TARGET, or
    labels or members that are not its own.
    """
    from keepstone.lab.samples import read_samples
    from keepstone.workspace.lab.auditing import Audit, audit, state

    # As a path it has lost a slash.
    if str(target).lower().startswith("https:/"):
        raise click.UsageError("Members are told of a model file; an address is not asked.")
    check_options(str(target), given, states="privacy")
    attack = given["attack"] or _fitting(given)
    asked = Audit(
        target,
        read_samples(members, given["label"]),
        read_samples(nonmembers, given["label"]),
        wanted_model(given),
        _strictest(given["limits"]),
        attack,
        given["train"],
        given["shadows"],
        given["seed"],
        given["kept"],
        given["patience"] / 1000,
    )
    others = others_given(given)
    subject, found = audit(asked, lambda opened: of_same_model(others, opened.digest))
    document = found.to_dict() | {
        "model": subject.name,
        "digest": str(subject.digest),
        "not_evaluated": _missed(attack, given["shadows"]),
    }

    def make(subject: Subject, key: Signatory, now: int) -> Envelope:
        told = {"report": document, "now": now, "lifetime_ms": given["lifetime"]}
        return state(subject, found, key, **told)

    with at_last(document, given["style"], lambda: _show(found)) as ends:
        if given["report"] is not None:
            ends.callback(write_curves_report, document, others, given)
        if given["key"] is not None:
            document["statement"] = record(subject, make, given)
    return status_of(found.verdict)


def _fitting(given: dict[str, Any]) -> str:
    if not given["train"]:
        return "loss-threshold"
    return "conditional-lira" if given["shadows"] >= 4 else "rmia"


def _missed(attack: str, shadows: int) -> list[str]:
    why = "not asked for" if shadows else "it needs shadow models, and none were made"
    return [
        f"{name}: {'not asked for' if name == 'loss-threshold' else why}"
        for name in _ATTACKS
        if name != attack
    ]


def _strictest(limits: tuple[tuple[float, float], ...]) -> dict[float, float]:
    found: dict[float, float] = {}
    for rate, most in limits:
        found[rate] = min(most, found.get(rate, 1.0))
    return found


def _show(found: Membership) -> None:
    click.echo(f"{found.verdict.value}: {found.attack} with {found.shadows} shadow models")
    few = "vouches for nothing" if found.problems else "too few rows"
    rows = [
        (
            f"{one.fpr:g}",
            f"{one.value:.3f}",
            f"{one.low:.3f}",
            f"{one.high:.3f}",
            "" if one.sufficient else few,
        )
        for one in found.tpr_at
    ]
    click.echo(table(rows, ("false positives", "told", "low", "high", "")))
    for problem in found.problems:
        say(f"{problem.code}: {problem.message}", mark="warn")
