"""`keepstone attack availability`: how much longer the worst input takes than an ordinary one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import (
    FILE,
    address_options,
    check_options,
    model_options,
    opened_target,
    status_of,
)
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json, say, table

if TYPE_CHECKING:
    from keepstone.lab.attacks.availability.measure import Availability
    from keepstone.lab.metrics.median import Median
    from keepstone.workspace.lab.slowing import Slowest

_ATTACKS = ("sponge", "worst-latency")


@click.command("availability")
@click.argument("target")
@click.option(
    "--data", required=True, type=FILE, help="Labelled samples: what is ordinary for the model."
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=click.Choice(_ATTACKS),
    help="Which search; may be given again.  [default: both]",
)
@click.option(
    "--at-most",
    type=float,
    default=2.0,
    show_default=True,
    help="How many times longer than an ordinary input the costliest may take.",
)
@click.option(
    "--budget",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="The most rows that the target is asked, repeats included.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="The most time that it takes; what is under way then is ended.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="How many copies of an input are asked at once.",
)
@model_options
@address_options
@format_option("json")
def command(target: str, data: Path, **given: Any) -> int:
    """Search for the input that the classifier TARGET takes longest for, and say how much longer.

    A file is timed by the processor time that it takes here, an address by the clock, its network
    included. What is found is measured anew beside ordinary inputs, in a random order.

    Exit status: 0 pass; 1 fail: even the lower end of the ratio is above --at-most; 2 something
    given cannot be used; 3 insufficient: noise drowns it, there was too little time to measure it,
    or the target holds answers back.
    """
    from keepstone.lab.samples import read_samples

    check_options(target, given)
    samples = read_samples(data, given["label"])
    # Nothing that is held back is waited for: it would be no time of the model's.
    given["remote"] = {"patience": 0.0, "seconds": min(30.0, given["seconds"]), "batch": 1 << 12}
    with opened_target(target, samples, given) as attacked:
        found = _run(attacked.target, samples.x, given)
    document = found.to_dict() | {"target": attacked.shown, "data": str(samples.digest)}
    if attacked.subject is not None:
        document |= {"model": attacked.subject.name, "digest": str(attacked.subject.digest)}
    if given["style"] == "json":
        emit_json(document)
    else:
        _show(found)
    return status_of(found.verdict)


def _run(target: Any, x: Any, given: dict[str, Any]) -> Slowest:
    from keepstone.workspace.lab.slowing import Slowdown, slow_down

    asked = Slowdown(
        tuple(dict.fromkeys(given["attacks"])) or _ATTACKS,
        given["at_most"],
        given["budget"],
        given["seconds"],
        batch=given["batch"],
        seed=given["seed"],
    )

    def ended(found: Availability) -> None:
        say(f"{found.attack}: {found.asked} rows asked in {found.seconds:.1f} s", mark="ok")

    # Nothing is drawn on the terminal meanwhile: it would be timed, too.
    return slow_down(target, target.domain.fit(x, x), asked, ended)


def _show(found: Slowest) -> None:
    click.echo(f"{found.verdict.value}: {_said(found)}")
    rows = [
        (
            one.attack,
            "-" if one.typical is None else f"{one.typical * 1e3:.3f} ms",
            *_cells(one.ratio),
            *_cells(one.control)[1:],
        )
        for one in found.found
    ]
    head = ("attack", "ordinary", "times", "low", "high", "noise from", "to")
    click.echo(table(rows, head))
    for one in found.found:
        for problem in one.problems:
            say(f"{one.attack}: {problem.code}: {problem.message}", mark="warn")


def _said(found: Slowest) -> str:
    from keepstone.lab.problem import Verdict

    if not any(one.ratio.n for one in found.found):
        return "nothing was measured"
    slower = f"takes more than {found.asked.limit:g} times as long as an ordinary one"
    if found.verdict is Verdict.FAIL:
        return f"an input {slower}"
    if found.verdict is Verdict.PASS:
        return f"no input that was found {slower}"
    return f"whether an input {slower} is not known"


def _cells(found: Median) -> tuple[str, str, str]:
    if not found.n:
        return ("-", "-", "-")
    return (f"{found.value:.2f}", f"{found.low:.2f}", f"{found.high:.2f}")
