"""`keepstone harden smooth`: certificates by randomised smoothing, attacked in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import model_options, status_of, wanted_model
from keepstone.cli.hardening import cells, data_option, show_problems, show_verdict, step, told
from keepstone.cli.options import format_option
from keepstone.cli.output import table

if TYPE_CHECKING:
    from keepstone.lab.defences.smoothing import Smoothing
    from keepstone.lab.defences.smoothing_attack import Reattacked
    from keepstone.lab.samples import Samples
    from keepstone.workspace.lab.attacking import Opened

# In parts of the noise, where nobody asks for other radii.
_RADII = (0.0, 0.5, 1.0, 2.0)


@click.command("smooth")
@click.argument("model", type=click.Path(path_type=Path))
@data_option()
@click.option(
    "--sigma",
    type=float,
    required=True,
    help="The noise's deviation, in the units of the inputs.",
)
@click.option(
    "--draws",
    type=int,
    default=1_000,
    show_default=True,
    help="Noisy copies of a sample that bound its class; more of them prove larger radii.",
)
@click.option(
    "--guesses",
    type=int,
    default=100,
    show_default=True,
    help="Others before these that choose the class.",
)
@click.option(
    "--alpha",
    type=float,
    default=0.001,
    show_default=True,
    help="The chance that one certificate is wrong.",
)
@click.option(
    "--radius",
    "radii",
    multiple=True,
    type=float,
    help="Tell the certified accuracy at this radius (l2); may be given again.  [default: 0, and"
    " a half, one and two of --sigma]",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="How many samples are drawn.",
)
@model_options
@format_option("json")
def command(model: Path, data: Path, **given: Any) -> int:
    """Certify what MODEL says of samples under noise, and attack that within each certificate.

    What is certified is the smoothed classifier: the class that MODEL serves most often around an
    input, which is what has to be served. The attack knows the noise; what it leaves is told beside
    what is certified, on the same samples, and lies above it where the certificates hold.

    Exit status: 0 the numbers count; 2 something given cannot be used; 3 insufficient (too few
    samples, or a gradient that is zero and labels that turned nothing), or invalid: certified
    predictions fell within their radius.
    """
    from keepstone.lab.defences.smoothing import Smoothing
    from keepstone.lab.samples import read_samples
    from keepstone.workspace.lab.attacking import chosen, open_model

    smoothing = Smoothing(given["sigma"], given["guesses"], given["draws"], given["alpha"])
    everything = read_samples(data, given["label"])
    with open_model(model, everything, wanted_model(given, gradient=True)) as opened:
        samples = chosen(everything, given["samples"], given["seed"])
        found = _run(smoothing, opened, samples, given)
    document = found.to_dict() | {"data": str(everything.digest)}
    told(document, opened, given["style"], lambda: _show(found))
    return status_of(found.verdict)


def _run(
    smoothing: Smoothing, opened: Opened, samples: Samples, given: dict[str, Any]
) -> Reattacked:
    from keepstone.lab.defences.smoothing_attack import reattack

    sizes = given["radii"] or [part * smoothing.sigma for part in _RADII]
    target, seed = opened.target, given["seed"]
    x = target.domain.fit(samples.x, samples.x)
    with step("certificates"):
        certificates = smoothing.certify(target, x, opened.classes.encode(samples.y), seed)
    with step("attacks"):
        return reattack(smoothing, target, x, certificates, sizes, seed=seed)


def _show(found: Reattacked) -> None:
    certificates = found.certificates
    problems = (*certificates.problems, *found.problems)
    show_verdict(found.verdict, certificates.method, problems)
    rows = [
        (
            certificates.unit,
            f"{size:g}",
            *cells(certificates.accuracy_at(size), ends=True),
            *cells(left),
        )
        for size, left in zip(found.sizes, found.left, strict=True)
    ]
    click.echo(table(rows, ("norm", "radius", "certified", "low", "high", "under attack")))
    click.echo(f"{found.broken} of {found.attacked} certificates fell within their own radius.")
    show_problems(problems)
