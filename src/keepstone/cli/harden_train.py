"""`keepstone harden train`: adversarial training from the weights of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import FILE, model_options, status_of, suite_options, wanted_model
from keepstone.cli.hardening import (
    about,
    check_own,
    held_out_option,
    judged,
    own_of,
    require_places,
    show_evaluation,
    step,
    weights_options,
    written,
)
from keepstone.cli.options import format_option
from keepstone.cli.output import at_last

if TYPE_CHECKING:
    from keepstone.lab.defences.adversarial_training import Lesson, Schedule
    from keepstone.lab.samples import Samples
    from keepstone.lab.targets.port import Target
    from keepstone.lab.targets.torch import TorchTarget
    from keepstone.workspace.lab.attacking import Opened

# What each of them takes beside its epsilon.
_LESSONS = {"pgd": ("steps",), "trades": ("steps", "beta"), "fast": ()}


@click.command("train")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=FILE, help="Labelled rows to train on.")
@held_out_option
@click.option(
    "--by",
    type=click.Choice(tuple(_LESSONS)),
    default="pgd",
    show_default=True,
    help="pgd (Madry et al.), trades (Zhang et al.), or fast: one step from a random start (Wong"
    " et al.).",
)
@click.option(
    "--train-eps",
    type=float,
    help="How far in each feature (linf) the training perturbs.  [default: the largest --eps]",
)
@click.option("--epochs", type=int, default=20, show_default=True)
@click.option("--batch", type=int, default=128, show_default=True, help="Rows in a step.")
@click.option("--rate", type=float, default=0.01, show_default=True, help="The learning rate.")
@click.option("--steps", type=int, help="With pgd, trades: of the attack in each.  [default: 7]")
@click.option("--beta", type=float, help="With trades: the weight of robustness.  [default: 6]")
@click.option(
    "--members",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Train so many, each by a seed of its own, that answer as one by their mean.",
)
@suite_options
@model_options
@weights_options
@format_option("json")
def command(model: Path, data: Path, held_out: Path, **given: Any) -> int:
    """Train the weights in MODEL further, on the worst inputs near the samples.

    MODEL is scanned and opened as the vault opens it: weights, and the code that --architecture
    names. It and what came of it are attacked with the same held-out samples; --eps is linf where
    no --norm says otherwise. The weights are written with the names that they had where the
    verdict is pass, and else only with --keep; those of several --members beside each other (FILE-1
    and so on), for `keepstone harden ensemble` to compare with the best of them.

    Exit status: 0 pass: it gains; 1 fail: it does not; 2 something given cannot be used; 3
    insufficient, or invalid (it only masks): no number that could be relied on.
    """
    from dataclasses import asdict

    from keepstone.lab.samples import read_samples
    from keepstone.workspace.lab.attacking import open_model

    _check(given)
    require_places(given, given["members"])
    rows, judges = read_samples(data, given["label"]), read_samples(held_out, given["label"])
    with open_model(model, rows, wanted_model(given)) as opened:
        lesson, plan = _lesson(opened, given), _plan(given)
        seeds = [given["seed"] + number for number in range(given["members"])]
        made = _trained(opened, rows, judges, lesson, plan, seeds)
        named = {"name": lesson.name, "undefended": opened.target}
        found = judged(_as_one(made), opened, judges, given, **named)
    parameters = asdict(lesson)  # type: ignore[call-overload]  # each of them is a dataclass
    document = found.to_dict() | {
        "source": lesson.source,
        "parameters": parameters | asdict(plan) | {"seeds": seeds},
        "data": str(rows.digest),
        "held_out": str(judges.digest),
        "weights": [],
        **about(opened),
    }
    with at_last(document, given["style"], lambda: show_evaluation(found)):
        modules = [one.module for one in made]
        document["weights"] = written(modules, opened, found.verdict, given)
    return status_of(found.verdict)


def _check(given: dict[str, Any]) -> None:
    """Raises a usage error for options that do not go together."""
    check_own(given, _LESSONS)
    if given["norm"] is None and given["epsilons"]:
        given["norm"] = "linf"
    if given["norm"] not in (None, "linf") and given["train_eps"] is None:
        raise click.UsageError(
            "The training perturbs in linf: with another --norm, give --train-eps."
        )


def _lesson(opened: Opened, given: dict[str, Any]) -> Lesson:
    from keepstone.lab.defences.adversarial_training import FastTraining, PgdTraining, Trades
    from keepstone.lab.suites.question import asked

    eps = given["train_eps"]
    if eps is None:
        eps = asked(given["norm"], given["epsilons"], opened.target.domain)[1][-1]
    made: dict[str, Any] = {"pgd": PgdTraining, "trades": Trades, "fast": FastTraining}
    lesson: Lesson = made[given["by"]](eps, **own_of(given, _LESSONS))
    return lesson


def _plan(given: dict[str, Any]) -> Schedule:
    from keepstone.lab.defences.adversarial_training import Schedule

    return Schedule(given["epochs"], given["batch"], given["rate"])


def _trained(
    opened: Opened,
    rows: Samples,
    judges: Samples,
    lesson: Lesson,
    plan: Schedule,
    seeds: Sequence[int],
) -> list[TorchTarget]:
    from keepstone.lab.defences.adversarial_training import harden
    from keepstone.workspace.lab.attacking import require_fit
    from keepstone.workspace.lab.hardening import module_of, require_apart

    module, domain = module_of(opened), opened.target.domain
    require_fit(judges, domain)
    require_apart(rows, judges, domain)
    y = opened.classes.encode(rows.y)
    # Whatever is wrong with them is told before anything is trained.
    opened.classes.encode(judges.y)
    with step("training"):
        return [harden(lesson, module, rows.x, y, domain, schedule=plan, seed=one) for one in seeds]


def _as_one(members: list[TorchTarget]) -> Target:
    from keepstone.lab.defences.ensemble import SoftVote

    return members[0] if len(members) == 1 else SoftVote(members)
