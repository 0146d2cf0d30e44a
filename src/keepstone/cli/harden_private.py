"""`keepstone harden private`: training that hides each row, and what attacks find of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import FILE, model_options, status_of, wanted_model
from keepstone.cli.hardening import (
    about,
    cells,
    held_out_option,
    member_cells,
    require_places,
    show_problems,
    show_verdict,
    step,
    weights_options,
    written,
)
from keepstone.cli.options import format_option
from keepstone.cli.output import at_last, say, table

if TYPE_CHECKING:
    from keepstone.lab.attacks.privacy.shadows import Shadows
    from keepstone.lab.defences.dp_sgd import DpSgd
    from keepstone.lab.defences.privacy_evaluation import PrivacyEvaluation
    from keepstone.lab.samples import Samples
    from keepstone.workspace.lab.attacking import Opened


@click.command("private")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, type=FILE, help="Labelled rows to train on: those that MODEL was."
)
@held_out_option
@click.option(
    "--noise",
    type=float,
    default=1.0,
    show_default=True,
    help="The noise's deviation, in parts of --clip.",
)
@click.option(
    "--clip", type=float, default=1.0, show_default=True, help="The longest gradient of a row."
)
@click.option(
    "--rate",
    type=float,
    default=0.1,
    show_default=True,
    help="The chance of a row to be in a step (Poisson).",
)
@click.option("--steps", type=int, default=200, show_default=True)
@click.option("--speed", type=float, default=0.01, show_default=True, help="The learning rate.")
@click.option(
    "--delta",
    type=float,
    default=1e-5,
    show_default=True,
    help="The chance that the epsilon does not hold; well below one by the number of rows.",
)
@click.option(
    "--at-most",
    type=float,
    default=10.0,
    show_default=True,
    help="The epsilon that is enough: a larger one hides next to nothing.",
)
@click.option(
    "--shadows",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Also attack by RMIA with so many shadow models, trained as privately; in pairs.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=5_000,
    show_default=True,
    help="The most rows that are asked for, of either kind.",
)
@click.option(
    "--fixed",
    metavar="NAME",
    multiple=True,
    help="A tensor of the model, or a part of it with all in it, that begins the same whatever the"
    " seed, as a table of positions. You state that it was made without the rows.",
)
@model_options
@weights_options
@format_option("json")
def command(model: Path, data: Path, held_out: Path, **given: Any) -> int:
    """Train MODEL's code anew by DP-SGD, and attack that before its epsilon is told.

    The weights in MODEL are no beginning, for they may know the rows: they are what the private
    ones are compared with. The epsilon is one on which two accountants agree; then both models are
    asked which rows they were trained on, and an epsilon that the attacks contradict is invalid.
    What the code does not draw, and is not 0 or 1 throughout, may come of the rows: it is refused
    but where --fixed names it, which the result tells, with its digest.

    The weights are written where the verdict is pass, and else only with --keep. --seed draws the
    first weights, the samples and the shadow models, never the noise.

    Exit status: 0 pass: proved, small enough, and not contradicted; 1 fail: it is larger than
    --at-most; 2 something given cannot be used; 3 insufficient (too few rows, accountants that
    disagree) or invalid.
    """
    from keepstone.lab.defences.beginning import begun_anew, digest_of
    from keepstone.lab.defences.dp_sgd import DpSgd
    from keepstone.lab.samples import read_samples
    from keepstone.workspace.lab.attacking import open_model
    from keepstone.workspace.lab.hardening import module_of

    require_places(given)
    rows, others = read_samples(data, given["label"]), read_samples(held_out, given["label"])
    training = DpSgd(*(given[name] for name in ("noise", "clip", "rate", "steps", "speed")))
    with open_model(model, rows, wanted_model(given)) as opened:
        begun = begun_anew(module_of(opened), given["seed"], given["fixed"])
        fixed = [{"name": one, "digest": str(digest_of(begun, one))} for one in given["fixed"]]
        found = _run(training, begun, opened, rows, others, given)
    document = found.to_dict() | {
        "data": str(rows.digest),
        "held_out": str(others.digest),
        "fixed": fixed,
        "weights": [],
        **about(opened),
    }
    with at_last(document, given["style"], lambda: _show(found, given["fixed"])):
        modules = [found.private.target.module]
        document["weights"] = written(modules, opened, found.verdict, given)
    return status_of(found.verdict)


def _run(
    training: DpSgd,
    begun: Any,
    opened: Opened,
    rows: Samples,
    others: Samples,
    given: dict[str, Any],
) -> PrivacyEvaluation:
    import numpy as np

    from keepstone.lab.defences.privacy_evaluation import attacked
    from keepstone.workspace.lab.attacking import chosen, require_fit
    from keepstone.workspace.lab.auditing import joined
    from keepstone.workspace.lab.hardening import require_apart, seen_once

    domain, seed = opened.target.domain, given["seed"]
    require_fit(others, domain)
    require_apart(rows, others, domain)
    inside, outside = (
        chosen(one, given["samples"], seed) for one in (seen_once(rows), seen_once(others))
    )
    asked = joined(inside, outside)
    x, y = domain.fit(asked.x, asked.x), opened.classes.encode(asked.y)
    labels = opened.classes.encode(rows.y)
    known = np.arange(len(x)) < len(inside)
    with step("training"):
        private = training.fit(begun, rows.x, labels, domain, given["delta"])
    with step("attacks"):
        shadows = _shadows(training, opened, x, y, given) if given["shadows"] else None
        return attacked(private, opened.target, x, y, known, shadows, at_most=given["at_most"])


def _shadows(training: DpSgd, opened: Opened, x: Any, y: Any, given: dict[str, Any]) -> Shadows:
    from keepstone.lab.attacks.privacy.shadows import make_shadows
    from keepstone.lab.defences.beginning import begun_anew
    from keepstone.workspace.lab.hardening import module_of

    module, fixed = module_of(opened), given["fixed"]

    def train(x: Any, y: Any, seed: int) -> Any:
        return training.train(begun_anew(module, seed, fixed), x, y, opened.target.domain, seed)

    return make_shadows(train, x, y, given["shadows"], given["seed"], training=repr(training))


def _show(found: PrivacyEvaluation, fixed: Sequence[str]) -> None:
    show_verdict(found.verdict, "dp-sgd", found.problems)
    rows = []
    for one in found.attacks:
        name = one.private.attack
        rows += [(name, "undefended", *member_cells(one.undefended), "")]
        rows += [(name, "private", *member_cells(one.private), f"{one.lower:.3f}")]
    head = ("members at 1 % others", "model", "told", "low", "high", "epsilon at least")
    click.echo(table(rows, head))
    accuracies = [
        ("undefended", *cells(found.accuracy_undefended, ends=True)),
        ("private", *cells(found.accuracy, ends=True)),
    ]
    click.echo("\n" + table(accuracies, ("accuracy", "held out", "low", "high")))
    proven = found.private.epsilon
    by = ", ".join(f"{name} {value:.3f}" for name, value in proven.by)
    click.echo(f"\nepsilon {proven.epsilon:.3f} at delta {proven.delta:g} (accountants: {by})")
    for name in fixed:
        say(f"{name}: you state that it was made without the rows", mark="warn")
    show_problems(found.problems)
