"""`keepstone harden ensemble`: several models that answer as one."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.attacking import (
    input_options,
    question_of,
    status_of,
    suite_options,
    wanted_model,
)
from keepstone.cli.hardening import cells, data_option, drawn, show_evaluation, step
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json, table

if TYPE_CHECKING:
    from keepstone.lab.defences.ensemble import Compared
    from keepstone.lab.samples import Samples
    from keepstone.workspace.lab.attacking import Opened

_VOTES = ("mean", "majority")


@click.command("ensemble")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@data_option()
@click.option(
    "--by",
    type=click.Choice(_VOTES),
    default="mean",
    show_default=True,
    help="The mean of the probabilities, or the label that most members serve.",
)
@suite_options
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    help="For weights alone: the code to import, package.module:Class; once for all of them, or"
    " once for each, in their order.",
)
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="For models that do not say what they accept: a file (JSON) that does, a part of the"
    " artifact; once for all of them, or once for each, in their order.",
)
@input_options
@format_option("json")
def command(models: tuple[Path, ...], data: Path, **given: Any) -> int:
    """Let MODELS answer as one, and attack them together and each alone.

    All take the same inputs and tell the same classes. The ensemble is compared with its best
    member, both attacked themselves, on the same samples. What is left where attacks on the
    members are replayed on the ensemble is told beside it, and counts for nothing: one who knows
    the ensemble attacks the ensemble.

    Exit status: 0 pass: it gains; 1 fail: it does not; 2 something given cannot be used; 3
    insufficient, or invalid (it only masks): no number that could be relied on.
    """
    from keepstone.lab.samples import read_samples

    if len(models) < 2:
        raise click.UsageError("An ensemble has two members at least.")
    samples = read_samples(data, given["label"])
    with ExitStack() as stack:
        members = _opened(stack, models, samples, given)
        found = _run(members, samples, given)
    if given["style"] == "json":
        about = [{"model": one.subject.name, "digest": str(one.subject.digest)} for one in members]
        document = found.to_dict() | {"data": str(samples.digest)}
        for told, one in zip(document["members"], about, strict=True):
            told |= one
        emit_json(document)
    else:
        _show(found, members)
    return status_of(found.evaluation.verdict)


def _opened(
    stack: ExitStack, models: tuple[Path, ...], samples: Samples, given: dict[str, Any]
) -> list[Opened]:
    """All of them, each with its contract if it carries none, and its architecture if it is
    weights alone."""
    from keepstone.errors import InputError
    from keepstone.workspace.lab.attacking import open_model

    lacks = {
        "contract.missing": _Lacking("contract", [one.absolute() for one in given["contracts"]]),
        "model.architecture_needed": _Lacking("architecture", list(given["architectures"])),
    }
    plain = wanted_model(given | {"architecture": None, "contract": None}, gradient=True)

    def member(model: Path) -> Opened:
        own, lacking = plain, dict(lacks)
        while True:
            try:
                return stack.enter_context(open_model(model, samples, own))
            except InputError as error:
                # What it was given once, it does not lack.
                found = lacking.pop(error.code, None)
                if found is None or not found.given:
                    raise
                own = replace(own, **{found.option: found.take(model)})

    members = [member(model) for model in models]
    for one in lacks.values():
        if one.given[1:] and one.left:
            raise click.UsageError(f"No model is left for --{one.option} {one.left[0]}.")
    return members


class _Lacking:
    """What some models do not say themselves: given once for all of them, or once for each."""

    def __init__(self, option: str, given: list[Any]) -> None:
        self.option = option
        self.given = given
        self.left = list(given)

    def take(self, model: Path) -> Any:
        if len(self.given) == 1:
            return self.given[0]
        if not self.left:
            raise click.UsageError(f"There is no --{self.option} left for {model}.")
        return self.left.pop(0)


def _run(members: list[Opened], samples: Samples, given: dict[str, Any]) -> Compared:
    from keepstone.errors import InputError
    from keepstone.lab.defences.ensemble import Majority, SoftVote, against_best
    from keepstone.lab.suites.catalogue import suite_called

    first = members[0]
    if any(one.classes != first.classes for one in members):
        raise InputError(
            "defence.other_members",
            "The members call their classes otherwise, or have them in another order.",
            "Name the classes of all of them with --classes.",
        )
    targets = [one.target for one in members]
    ensemble = SoftVote(targets) if given["by"] == "mean" else Majority(targets)
    chosen = drawn(samples, given)
    question = question_of(ensemble.domain, len(chosen), given)
    y = first.classes.encode(chosen.y)
    with step("attacks"):
        return against_best(ensemble, chosen.x, y, suite_called(given["suite"]), question)


def _show(found: Compared, members: list[Opened]) -> None:
    show_evaluation(found.evaluation)
    epsilons = found.evaluation.question.epsilons
    rows = [
        (
            f"{one.subject.name}{' (best)' if at == found.best else ''}",
            *cells(alone.clean),
            *(cells(at_eps.robust)[0] for at_eps in alone.robust),
        )
        for at, (one, alone) in enumerate(zip(members, found.members, strict=True))
    ]
    rows.append(("replayed on the ensemble", "", *(cells(one)[0] for one in found.replayed)))
    click.echo("\n" + table(rows, ("attacks on", "clean", *(f"{eps:g}" for eps in epsilons))))
