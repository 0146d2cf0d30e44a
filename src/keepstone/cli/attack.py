"""`keepstone attack`: measure what attacks leave of a classifier's accuracy."""

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
    question_of,
    record,
    statement_options,
    status_of,
    suite_options,
)
from keepstone.cli.attacking_report import (
    of_same_model,
    others_given,
    report_options,
    write_report,
)
from keepstone.cli.attacking_spread import check_spread, shards_of
from keepstone.cli.duration import DURATION
from keepstone.cli.lazy import CommandOrGroup
from keepstone.cli.options import format_option, workspace_option
from keepstone.cli.output import at_last, say, table
from keepstone.cli.progress import Steps

if TYPE_CHECKING:
    from keepstone.core.digest import Digest
    from keepstone.core.subject import Subject
    from keepstone.evidence.dsse import Envelope
    from keepstone.identity.signing import Signatory
    from keepstone.lab.report.documents import Document
    from keepstone.lab.samples import Samples
    from keepstone.lab.suites.plan import Suite
    from keepstone.lab.suites.question import Question
    from keepstone.lab.suites.result import Ran, SuiteResult
    from keepstone.lab.suites.shards import Shards

# What else can be found out by attacking: the value is the file of this package.
OTHERS = {
    "membership": "attack_membership",
    "extract": "attack_extract",
    "poisoning": "attack_poisoning",
    "availability": "attack_availability",
}


@click.command("attack", cls=CommandOrGroup, files=OTHERS)
@click.argument("target")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled samples that the model never saw: .npz with x and y, CSV or Parquet.",
)
@suite_options
@click.option(
    "--at-least",
    type=float,
    default=0.5,
    show_default=True,
    help="The robust accuracy that is enough: the lower end of its interval has to reach it.",
)
@click.option(
    "--constraints",
    type=FILE,
    help="A JSON file of what an attacker may do to which feature: immutable, integer, grows,"
    " shrinks, one_hot, cost.",
)
@model_options
@address_options
@report_options
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Attack in parts, by so many processes; what is found does not hang on how many.",
)
@click.option(
    "--ray",
    metavar="HOST:PORT",
    help="The same by the machines of this Ray cluster (or auto); each has the file at its path.",
)
@click.option(
    "--patience",
    type=DURATION,
    default="6h",
    show_default=True,
    help="With --workers or --ray: how long a part may take before it is lost.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder for what is done, so that a run that is cut off goes on from there.",
)
@statement_options
@workspace_option
@format_option("json")
def command(target: str, data: Path, **given: Any) -> int:
    """Attack the classifier TARGET with samples, and say what is left of its accuracy.

    TARGET is a model file, which is scanned and opened as the vault opens it, or an address
    (https://HOST) that speaks the Open Inference Protocol, asked with the key's own limits.

    Exit status: 0 pass; 1 fail; 2 something given cannot be used; 3 insufficient (too few samples
    or answers) or invalid (masked gradients, other labels): no number that could be relied on.
    """
    from keepstone.lab.samples import read_samples
    from keepstone.lab.suites.catalogue import suite_called

    check_options(target, given, states="robustness")
    check_spread(target, given)
    suite = suite_called(given["suite"])
    count = suite.samples if given["samples"] is None else given["samples"]
    everything = read_samples(data, given["label"])
    others = others_given(given)
    with opened_target(target, everything, given, gradient=True) as attacked:
        others = of_same_model(others, attacked.digest)
        samples = _chosen(everything, count, given["seed"])
        question = question_of(attacked.target.domain, len(samples), given)
        outcome = _run(attacked, samples, suite, question, given)
        _write(outcome, attacked, samples, others, given)
    return status_of(outcome.verdict)


def _chosen(samples: Samples, count: int, seed: int) -> Samples:
    from keepstone.workspace.lab.attacking import chosen

    return chosen(samples, count, seed)


def _run(
    attacked: Attacked,
    samples: Samples,
    suite: Suite,
    question: Question,
    given: dict[str, Any],
) -> SuiteResult:
    from keepstone.lab.suites.memory import Memory
    from keepstone.lab.suites.run import run_suite

    shards = shards_of(attacked, samples, given)
    memory = None
    if given["resume"] is not None:
        digest = _run_digest(attacked, samples, suite, question, shards)
        memory = Memory(given["resume"], digest)
    with Steps() as steps:
        return run_suite(
            attacked.target,
            samples.x,
            attacked.classes.encode(samples.y),
            suite,
            question,
            names=attacked.classes.names,
            memory=memory,
            observer=_Progress(steps),
            shards=shards,
        )


def _run_digest(
    attacked: Attacked,
    samples: Samples,
    suite: Suite,
    question: Question,
    shards: Shards | None,
) -> Digest:
    import json

    from keepstone import __version__
    from keepstone.workspace.lab.attacking import run_digest, served_digest

    subject, wanted = attacked.subject, attacked.wanted
    return run_digest(
        {
            "version": __version__,
            "target": attacked.shown if subject is None else str(subject.digest),
            "architecture": None if wanted is None else wanted.architecture,
            # The code behind an architecture may have been edited since.
            "served": None if subject is None else str(served_digest(attacked.target, samples)),
            "domain": str(attacked.target.domain.digest),
            "classes": list(attacked.classes.names),
            "data": str(samples.digest),
            "suite": suite.name,
            "question": json.dumps(question.to_dict()),
            "shards": None if shards is None else shards.samples,
        }
    )


class _Progress:
    """Tells each attack as it ends."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def begins(self, attack: str, eps: float | None, standing: int) -> None:
        at = "" if eps is None else f" at eps {eps:g}"
        self._steps.begin(f"{attack}{at}")

    def ended(self, ran: Ran) -> None:
        self._steps.end(
            f"broke {ran.broken} of {ran.attacked}, {ran.queries_mean:.0f} queries each,"
            f" {ran.cpu_s:.1f} CPU s"
        )

    def shard_ended(self, number: int, of: int, lost: str | None) -> None:
        self._steps.begin(f"part {number + 1} of {of}")
        if lost is None:
            self._steps.end("attacked")
        else:
            self._steps.warn(f"part {number + 1} of {of} is lost: {lost}")


def _write(
    outcome: SuiteResult,
    attacked: Attacked,
    samples: Samples,
    others: list[Document],
    given: dict[str, Any],
) -> None:
    document = outcome.to_dict()
    if attacked.subject is not None:
        document |= {"model": attacked.subject.name, "digest": str(attacked.subject.digest)}
    document |= {"target": attacked.shown, "data": str(samples.digest)}
    with at_last(document, given["style"], lambda: _show(outcome)) as ends:
        if given["report"] is not None:
            ends.callback(_report, outcome, attacked, samples, others, given)
        if given["key"] is not None:
            document["statement"] = _state(outcome, attacked, samples, document, given)


def _report(
    outcome: SuiteResult,
    attacked: Attacked,
    samples: Samples,
    others: list[Document],
    given: dict[str, Any],
) -> None:
    from keepstone import __version__
    from keepstone.lab.report.html import write_html

    about = {
        "target": attacked.shown,
        "model": str(attacked.digest or "not known"),
        "samples": str(samples.digest),
        "by": f"keepstone {__version__}",
    }
    page = write_html(outcome, attacked.target.domain, about, samples.features, others)
    write_report(page, given)


def _state(
    outcome: SuiteResult,
    attacked: Attacked,
    samples: Samples,
    report: dict[str, Any],
    given: dict[str, Any],
) -> dict[str, Any]:
    from keepstone.workspace.lab.attacking import state

    assert attacked.subject is not None

    def make(subject: Subject, key: Signatory, now: int) -> Envelope:
        told = {"report": report, "now": now, "lifetime_ms": given["lifetime"]}
        return state(subject, outcome, samples, key, **told)

    return record(attacked.subject, make, given)


def _show(outcome: SuiteResult) -> None:
    click.echo(f"{outcome.verdict.value}: {'; '.join(outcome.reasons)}")
    clean = outcome.clean
    rows = [("clean", "", f"{clean.value:.3f}", f"{clean.low:.3f}", f"{clean.high:.3f}")]
    rows += [
        (
            outcome.question.norm.name,
            f"{one.eps:g}",
            f"{r.value:.3f}",
            f"{r.low:.3f}",
            f"{r.high:.3f}",
        )
        for one in outcome.robust
        for r in (one.robust,)
    ]
    click.echo(table(rows, ("norm", "eps", "accuracy", "low", "high")))
    for sign in outcome.masking:
        if sign.seen:
            say(f"{sign.name} ({sign.weight.value}): {sign.message}", mark="warn")
    for one in outcome.problems:
        say(f"{one.code}: {one.message}", mark="warn")
    for missed in outcome.not_evaluated:
        say(f"not evaluated: {missed}", mark="warn")
