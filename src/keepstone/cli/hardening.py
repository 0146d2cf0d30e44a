"""What the defences share on the command line: how they are judged, written and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keepstone.cli.attacking import FILE, question_of
from keepstone.cli.output import at_last, say, table
from keepstone.cli.progress import Steps

if TYPE_CHECKING:
    from keepstone.lab.attacks.privacy.membership import Membership
    from keepstone.lab.defences.certificate import Certificates
    from keepstone.lab.defences.evaluate import Evaluation
    from keepstone.lab.metrics.wilson import Share
    from keepstone.lab.problem import Problem, Verdict
    from keepstone.lab.samples import Samples
    from keepstone.lab.targets.port import Target
    from keepstone.workspace.lab.attacking import Opened

F = TypeVar("F", bound=Callable[..., object])


def data_option(help: str = "Labelled samples that the model never saw.") -> Callable[[F], F]:
    return click.option("--data", required=True, type=FILE, help=help)


def held_out_option(function: F) -> F:
    return click.option(
        "--held-out",
        required=True,
        type=FILE,
        help="Labelled rows drawn alike that are never trained on; the models are judged by them.",
    )(function)


def weights_options(function: F) -> F:
    """Where the weights of what was trained go."""
    for option in (
        click.option(
            "--keep", is_flag=True, help="Write the weights whatever the verdict; it says so."
        ),
        click.option("--force", is_flag=True, help="Write over a file that is there already."),
        click.option(
            "--out",
            "-o",
            required=True,
            type=FILE,
            help="The weights go there (safetensors), where the verdict is pass.",
        ),
    ):
        function = option(function)
    return function


def check_own(given: dict[str, Any], by: Mapping[str, tuple[str, ...]]) -> None:
    """Raises a usage error for an option that is another's than that of what `--by` names."""
    for name in {name for names in by.values() for name in names}:
        if given[name] is not None and name not in by[given["by"]]:
            raise click.UsageError(f"--{name} says nothing with --by {given['by']}.")


def own_of(given: dict[str, Any], by: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The options of what `--by` names that were given; the others are its own defaults."""
    return {name: given[name] for name in by[given["by"]] if given[name] is not None}


def judged(
    defended: Target,
    opened: Opened,
    held_out: Samples,
    given: dict[str, Any],
    **about: Any,
) -> Evaluation:
    """Attack both models with some of the samples, as `suite_options` say."""
    from keepstone.lab.defences.evaluate import evaluate
    from keepstone.lab.suites.catalogue import suite_called

    suite, samples = suite_called(given["suite"]), drawn(held_out, given)
    question = question_of(opened.target.domain, len(samples), given)
    y = opened.classes.encode(samples.y)
    with step("attacks"):
        return evaluate(defended, samples.x, y, suite, question, **about)


def drawn(samples: Samples, given: dict[str, Any]) -> Samples:
    """As many of the samples as are asked for, or as the suite takes."""
    from keepstone.lab.suites.catalogue import suite_called
    from keepstone.workspace.lab.attacking import chosen

    count = given["samples"] or suite_called(given["suite"]).samples
    return chosen(samples, count, given["seed"])


def require_places(given: dict[str, Any], count: int = 1) -> None:
    """Before anything is trained: that its weights have where to go."""
    from keepstone.files import require_place

    for path in _places(given["out"], count):
        require_place(path, replace=given["force"])


def written(
    modules: Sequence[Any], opened: Opened, verdict: Verdict, given: dict[str, Any]
) -> list[dict[str, Any]]:
    """Write the weights of each if they may be, and what is told of that; none: they were not."""
    from keepstone.lab.problem import Verdict
    from keepstone.workspace.lab.hardening import write_weights

    if verdict is not Verdict.PASS and not given["keep"]:
        say(f"The verdict is {verdict.value}: no weights are written (--keep).", mark="warn")
        return []
    found = []
    for path, module in zip(_places(given["out"], len(modules)), modules, strict=True):
        digest = write_weights(path, module, opened, replace=given["force"])
        say(f"weights {path}", mark="ok")
        found.append({"file": str(path), "digest": str(digest)})
    return found


def _places(out: Path, count: int) -> list[Path]:
    """`out`; of several `out-1` and so on, before the ending."""
    if count == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(1, count + 1)]


@contextmanager
def step(what: str) -> Iterator[None]:
    """Tells a person at a terminal what takes so long; nobody elsewhere."""
    with Steps() as steps:
        steps.begin(what)
        yield


def told(document: dict[str, Any], opened: Opened, style: str, show: Callable[[], None]) -> None:
    """Print the result: for people, or as one JSON document that says of which model it is."""
    with at_last(document | about(opened), style, show):
        pass


def about(opened: Opened) -> dict[str, Any]:
    """Of which model a document is."""
    return {"model": opened.subject.name, "digest": str(opened.subject.digest)}


def show_evaluation(found: Evaluation) -> None:
    """The accuracies beside each other: what counts is `defended`."""
    show_verdict(found.verdict, found.defence, found.problems)
    none = "clean", "", *cells(found.clean_undefended), "", *cells(found.clean, ends=True)
    norm = found.question.norm.name
    rows = [none] + [
        (
            norm,
            f"{one.eps:g}",
            *cells(one.undefended),
            *cells(one.plain),
            *cells(one.defended, ends=True),
        )
        for one in found.robust
    ]
    head = ("norm", "eps", "undefended", "plain attack", "defended", "low", "high")
    click.echo(table(rows, head))
    show_problems(found.problems)
    runs = {"undefended": found.undefended, "plain": found.plain}
    if found.adaptive is not found.plain:
        runs["adaptive"] = found.adaptive
    for name, run in runs.items():
        _show_missed(name, run.not_evaluated)


def _show_missed(run: str, missed: Iterable[str]) -> None:
    """What was not evaluated, what has one reason together."""
    by_reason: dict[str, list[str]] = {}
    for one in missed:
        what, _, why = one.partition(": ")
        by_reason.setdefault(why, []).append(what)
    for why, names in by_reason.items():
        say(f"not evaluated ({run}): {'; '.join(names)}: {why}", mark="warn")


def show_certificates(found: Certificates, sizes: Sequence[float]) -> None:
    """The certified accuracy at each size."""
    show_verdict(found.verdict, found.method, found.problems)
    rows = [(found.unit, f"{one:g}", *cells(found.accuracy_at(one), ends=True)) for one in sizes]
    click.echo(table(rows, ("unit", "size", "certified", "low", "high")))
    show_problems(found.problems)


def show_verdict(verdict: Verdict, defence: str, problems: Iterable[Problem]) -> None:
    """The verdict and, in plain words, whether the defence masks."""
    masks = any(one.code == "defence.masks" for one in problems)
    click.echo(f"{verdict.value}: {defence}{' masks, and does no more' if masks else ''}")


def show_problems(problems: Iterable[Problem]) -> None:
    for one in problems:
        say(f"{one.code}: {one.message}", mark="warn")


def cells(found: Share, *, ends: bool = False) -> tuple[str, ...]:
    """A share in a table, with the ends of its interval if they are asked for."""
    shown = (found.value, found.low, found.high) if ends else (found.value,)
    return tuple(f"{one:.3f}" for one in shown)


def member_cells(audit: Membership) -> tuple[str, ...]:
    """How many members are told where 1 % of the others are accused, and the interval's ends."""
    from keepstone.lab.defences.privacy_evaluation import told_at

    at = told_at(audit)
    value = "-" if audit.roc is None else f"{at.value:.3f}"
    return value, f"{at.low:.3f}", f"{at.high:.3f}"
