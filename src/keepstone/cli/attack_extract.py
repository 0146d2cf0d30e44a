"""`keepstone attack extract`: how good a copy of a model its answers make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import (
    FILE,
    Attacked,
    address_options,
    check_options,
    model_options,
    opened_target,
    status_of,
)
from keepstone.cli.attacking_report import (
    of_same_model,
    others_given,
    report_options,
    write_curves_report,
)
from keepstone.cli.options import format_option
from keepstone.cli.output import at_last, say, table

if TYPE_CHECKING:
    from keepstone.lab.attacks.extraction.fidelity import Fidelity
    from keepstone.lab.attacks.extraction.run import Extraction
    from keepstone.lab.problem import Verdict
    from keepstone.lab.samples import Samples

_ATTACKS = ("equation-solving", "knockoff", "copycat", "jacobian-augmentation", "noise-pool")


@click.command("extract")
@click.argument("target")
@click.option(
    "--data",
    required=True,
    type=FILE,
    help="Labelled rows; a copy is measured on one half, and the other is what a thief has.",
)
@click.option("--pool", type=FILE, help="What a thief has, instead of half of --data.")
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=click.Choice(_ATTACKS),
    help="Which attack; may be given again.  [default: all]",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=int,
    default=(100, 500),
    show_default=True,
    help="How many queries; the copies of smaller budgets are made of the first answers.",
)
@click.option(
    "--at-most",
    type=float,
    help="The agreement that a copy may reach: the upper end of its interval has to stay below."
    " Without it the copies are told, and nothing is passed.",
)
@model_options
@address_options
@report_options
@format_option("json")
def command(target: str, data: Path, pool: Path | None, **given: Any) -> int:
    """Copy the classifier TARGET by asking it, and say how alike the copies are.

    Exit status: 0 no copy is better than --at-most; 1 one may be; 2 something given cannot be
    used; 3 insufficient or invalid: nothing can be said, or no --at-most was given.
    """
    from keepstone.lab.attacks.extraction.run import judge
    from keepstone.lab.samples import read_samples

    check_options(target, given)
    everything = read_samples(data, given["label"])
    others = others_given(given)
    with opened_target(target, everything, given) as attacked:
        others = of_same_model(others, attacked.digest)
        thief = None if pool is None else read_samples(pool, given["label"])
        found = _extract(attacked, everything, thief, given)
    verdict = judge(found, given["at_most"])
    document = _document(found, verdict, attacked, everything, given)
    with at_last(document, given["style"], lambda: _show(found, verdict, given["at_most"])):
        if given["report"] is not None:
            write_curves_report(document, others, given)
    return status_of(verdict)


def _document(
    found: list[Extraction],
    verdict: Verdict,
    attacked: Attacked,
    data: Samples,
    given: dict[str, Any],
) -> dict[str, Any]:
    from keepstone.lab.attacks.extraction.run import NO_BAR

    subject = attacked.subject
    return {
        "schema": "keepstone.extraction/v1",
        "verdict": verdict.value,
        "target": attacked.shown,
        **({} if subject is None else {"model": subject.name, "digest": str(subject.digest)}),
        "data": str(data.digest),
        "at_most": given["at_most"],
        "problems": [NO_BAR.to_dict()] if given["at_most"] is None else [],
        "attacks": [one.to_dict() for one in found],
        "not_evaluated": [
            f"{name}: not asked for"
            for name in _ATTACKS
            if given["attacks"] and name not in given["attacks"]
        ],
    }


def _extract(
    attacked: Attacked, data: Samples, thief: Samples | None, given: dict[str, Any]
) -> list[Extraction]:
    from keepstone.lab.attacks.extraction.catalogue import attacks_with
    from keepstone.lab.attacks.extraction.fidelity import HeldOut
    from keepstone.lab.attacks.extraction.run import extract
    from keepstone.lab.samples import require_same_columns
    from keepstone.workspace.lab.attacking import halved, require_fit

    kept, rest = halved(data, given["seed"]) if thief is None else (data, thief)
    domain, pool = attacked.target.domain, rest.x
    if thief is not None:
        require_fit(thief, domain)
        require_same_columns(thief.features, data.features, "the held-out rows")
    held_out = HeldOut.ask(
        attacked.target, domain.fit(kept.x, kept.x), attacked.classes.encode(kept.y)
    )
    return [
        extract(attacked.target, attack, held_out, given["budgets"], given["seed"])
        for attack in attacks_with(domain.fit(pool, pool), given["attacks"] or _ATTACKS)
    ]


def _show(found: list[Extraction], verdict: Verdict, at_most: float | None) -> None:
    from keepstone.lab.attacks.extraction.run import NO_BAR

    bar = "no bar was set" if at_most is None else f"a copy may agree in {at_most:g} at most"
    click.echo(f"{verdict.value}: {bar}")
    rows = []
    for one in found:
        for point in one.curve:
            agreement = point.agreement
            shown = (
                ("-", "-", "-")
                if agreement is None
                else (f"{agreement.value:.3f}", f"{agreement.low:.3f}", f"{agreement.high:.3f}")
            )
            rows.append((one.name, str(point.queries), *shown, _ended(point)))
    click.echo(table(rows, ("attack", "queries", "agreement", "low", "high", "")))
    if at_most is None:
        say(f"{NO_BAR.code}: {NO_BAR.message}", mark="warn")
    for one in found:
        for problem in one.final.problems:
            say(f"{one.name}: {problem.code}: {problem.message}", mark="warn")


def _ended(point: Fidelity) -> str:
    from keepstone.lab.problem import worst_of

    return "measured" if point.measured else worst_of(point.problems).value
