"""`keepstone harden inputs`: transforms of the input before a model sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import model_options, status_of, suite_options, wanted_model
from keepstone.cli.hardening import (
    check_own,
    data_option,
    judged,
    own_of,
    show_evaluation,
    told,
)
from keepstone.cli.options import format_option

if TYPE_CHECKING:
    from keepstone.lab.defences.input_transforms import Transform

# What each of them takes.
_TRANSFORMS = {"bit-depth": ("bits",), "median": ("size",), "noise": ("sigma",)}


@click.command("inputs")
@click.argument("model", type=click.Path(path_type=Path))
@data_option()
@click.option(
    "--by",
    type=click.Choice(tuple(_TRANSFORMS)),
    required=True,
    help="Fewer bits for each feature, the median around each pixel, or Gaussian noise.",
)
@click.option("--bits", type=int, help="With bit-depth: of each feature.  [default: 3]")
@click.option("--size", type=int, help="With median: the window's side, odd.  [default: 3]")
@click.option(
    "--sigma",
    type=float,
    help="With noise: its deviation, in parts of each feature's range.  [default: 0.1]",
)
@suite_options
@model_options
@format_option("json")
def command(model: Path, data: Path, **given: Any) -> int:
    """Put a transform before MODEL, and attack it as one does who knows the transform.

    Such an attack goes around a transform that has no gradient (BPDA), and through the mean of
    one that draws (EOT). A gain that this takes away is masking, and is called so.

    Exit status: 0 pass: it gains; 1 fail: it does not; 2 something given cannot be used; 3
    insufficient, or invalid (it only masks): no number that could be relied on.
    """
    from dataclasses import asdict

    from keepstone.lab.defences.input_transforms import Transformed
    from keepstone.lab.samples import read_samples
    from keepstone.workspace.lab.attacking import open_model

    check_own(given, _TRANSFORMS)
    samples = read_samples(data, given["label"])
    transform = _transform(given)
    with open_model(model, samples, wanted_model(given, gradient=True)) as opened:
        defended = Transformed(opened.target, transform, given["seed"])
        found = judged(defended, opened, samples, given)
    parameters = asdict(transform)  # type: ignore[call-overload]  # each of them is a dataclass
    document = found.to_dict() | {"parameters": parameters, "data": str(samples.digest)}
    told(document, opened, given["style"], lambda: show_evaluation(found))
    return status_of(found.verdict)


def _transform(given: dict[str, Any]) -> Transform:
    from keepstone.lab.defences.input_transforms import BitDepth, GaussianNoise, MedianSmoothing

    made: dict[str, Any] = {
        "bit-depth": BitDepth,
        "median": MedianSmoothing,
        "noise": GaussianNoise,
    }
    transform: Transform = made[given["by"]](**own_of(given, _TRANSFORMS))
    return transform
