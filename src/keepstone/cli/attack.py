"""`keepstone attack`: measure what attacks leave of a classifier's accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    KEY,
    format_option,
    read_option_file,
    signing_key,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say, table
from keepstone.cli.progress import Steps

if TYPE_CHECKING:
    from keepstone.core.digest import Digest
    from keepstone.core.subject import Subject
    from keepstone.identity.keystores.reference import KeyReference
    from keepstone.lab.samples import Samples
    from keepstone.lab.suites.outcome import Outcome, Ran
    from keepstone.lab.suites.plan import Suite
    from keepstone.lab.suites.question import Question
    from keepstone.lab.targets.classes import Classes
    from keepstone.lab.targets.port import Target
    from keepstone.workspace.attacking import Wanted

_FILE = click.Path(path_type=Path, dir_okay=False)
_SUITES = ("quick", "standard", "full")


@dataclass(frozen=True, slots=True)
class _Attacked:
    """What is attacked, by what it is known, and the digest that tells it from others."""

    shown: str
    subject: Subject | None
    target: Target
    classes: Classes


@click.command("attack")
@click.argument("target")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled samples that the model never saw: .npz with x and y, CSV or Parquet.",
)
@click.option(
    "--label", help="The column, or the array, of labels.  [default: y, label, target or class]"
)
@click.option(
    "--suite",
    type=click.Choice(_SUITES),
    default="quick",
    show_default=True,
    help="How much is tried: minutes for a CI, a release, or a night.",
)
@click.option("--norm", help="How a perturbation is measured: linf, l2, l1 or l0.")
@click.option(
    "--eps",
    "epsilons",
    multiple=True,
    type=float,
    help="How large it may be, in the units of the inputs; may be given again.  [default: linf, a"
    " tenth of the inputs' range]",
)
@click.option("--budget", type=int, help="The most queries for a sample that an attack may spend.")
@click.option(
    "--at-least",
    type=float,
    default=0.5,
    show_default=True,
    help="The robust accuracy that is enough: the lower end of its interval has to reach it.",
)
@click.option("--samples", type=int, help="How many samples are drawn.  [default: as the suite]")
@click.option("--seed", type=int, default=0, show_default=True, help="What is drawn by.")
@click.option("--classes", help="The classes' names in the order of the scores: a,b,c.")
@click.option("--low", type=float, help="The least value of an input whose range nobody declares.")
@click.option("--high", type=float, help="The greatest value.")
@click.option("--architecture", help="For weights alone: the code to import, package.module:Class.")
@click.option("--model", help="With an address: the model's name there.")
@click.option("--key-file", type=_FILE, help="A file with the API key or token to ask with.")
@click.option("--ca", type=_FILE, help="Certificates (PEM) to trust instead of the system's.")
@click.option("--report", type=_FILE, help="Write the report for people to this HTML file.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder for what is done, so that a run that is cut off goes on from there.",
)
@click.option(
    "--as",
    "key",
    type=KEY,
    help="Sign the result as evidence about the model in TARGET, and record it in the workspace.",
)
@click.option(
    "--statement", type=_FILE, help="With --as: append the statement to this file instead."
)
@click.option(
    "--name", help="With --as: the name that the model is served under.  [default: the file's]"
)
@click.option(
    "--lifetime",
    type=DURATION,
    default="30d",
    show_default=True,
    help="With --as: how long the statement holds.",
)
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

    _check(target, given)
    suite = suite_called(given["suite"])
    count = suite.samples if given["samples"] is None else given["samples"]
    everything = read_samples(data, given["label"])
    with _opened(target, everything, given) as attacked:
        samples = _chosen(everything, count, given["seed"])
        question = _question(attacked.target, len(samples), given)
        outcome = _run(attacked, samples, suite, question, given["resume"])
        _write(outcome, attacked, samples, given)
    return _status(outcome)


def _check(target: str, given: dict[str, Any]) -> None:
    remote = target.startswith("https://")
    if remote != (given["model"] is not None):
        raise click.UsageError("An address and --model go together.")
    if remote and given["key"] is not None:
        raise click.UsageError(
            "What is served at an address says nothing of which file it is: --as needs a file."
        )
    if given["key"] is None and (given["statement"] is not None or given["name"] is not None):
        raise click.UsageError("--statement and --name go with --as.")


@contextmanager
def _opened(target: str, samples: Samples, given: dict[str, Any]) -> Iterator[_Attacked]:
    classes = tuple(given["classes"].split(",")) if given["classes"] else ()
    if target.startswith("https://"):
        with _remote(target, samples, classes, given) as found:
            yield found
        return
    from keepstone.core.subject import Subject
    from keepstone.workspace.attacking import Wanted, open_model

    wanted: Wanted = Wanted(given["architecture"], given["low"], given["high"], classes)
    with open_model(Path(target), samples, wanted) as opened:
        subject = opened.subject
        if given["name"] is not None:
            subject = Subject(given["name"], subject.digest)
        yield _Attacked(target, subject, opened.target, opened.classes)


@contextmanager
def _remote(
    url: str, samples: Samples, classes: tuple[str, ...], given: dict[str, Any]
) -> Iterator[_Attacked]:
    from keepstone.lab.targets.classifier import RemoteClassifier
    from keepstone.lab.targets.remote import Address
    from keepstone.workspace.attacking import require_fit

    def text(path: Path | None) -> str | None:
        return None if path is None else read_option_file(path).decode("utf-8", "replace").strip()

    key = text(given["key_file"])
    # The header file that `up` leaves is as good as the bare key.
    bare = None if key is None else key.rpartition(" ")[2]
    address = Address.parse(url, given["model"], bare, text(given["ca"]))
    limits = {"low": given["low"], "high": given["high"]}
    with RemoteClassifier(address, samples.y, classes, **limits) as target:
        require_fit(samples, target.domain)
        yield _Attacked(address.shown, None, target, target.names)
        if target.remote.refusals:
            say(
                f"{target.remote.refusals} requests were refused for their number, and"
                f" {target.remote.waited_s:.0f} s waited for it: ask with a key of more.",
                mark="warn",
            )


def _chosen(samples: Samples, count: int, seed: int) -> Samples:
    from keepstone.workspace.attacking import chosen

    return chosen(samples, count, seed)


def _question(target: Target, samples: int, given: dict[str, Any]) -> Question:
    from keepstone.lab.suites.question import Question, asked

    norm, epsilons = asked(given["norm"], given["epsilons"], target.domain)
    return Question(norm, epsilons, samples, given["at_least"], given["budget"], given["seed"])


def _run(
    attacked: _Attacked, samples: Samples, suite: Suite, question: Question, resume: Path | None
) -> Outcome:
    from keepstone.lab.suites.memory import Memory
    from keepstone.lab.suites.run import run_suite

    memory = None
    if resume is not None:
        memory = Memory(resume, _run_digest(attacked, samples, suite, question))
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
        )


def _run_digest(attacked: _Attacked, samples: Samples, suite: Suite, question: Question) -> Digest:
    import json

    from keepstone import __version__
    from keepstone.workspace.attacking import run_digest

    subject = attacked.subject
    return run_digest(
        {
            "version": __version__,
            "target": attacked.shown if subject is None else str(subject.digest),
            "classes": list(attacked.classes.names),
            "data": str(samples.digest),
            "suite": suite.name,
            "question": json.dumps(question.to_dict()),
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


def _write(outcome: Outcome, attacked: _Attacked, samples: Samples, given: dict[str, Any]) -> None:
    if given["report"] is not None:
        _write_report(outcome, attacked, samples, given["report"])
    document = outcome.to_dict()
    if attacked.subject is not None:
        document |= {"model": attacked.subject.name, "digest": str(attacked.subject.digest)}
    document |= {"target": attacked.shown, "data": str(samples.digest)}
    if given["key"] is not None:
        document["statement"] = _state(outcome, attacked, samples, given)
    if given["style"] == "json":
        emit_json(document)
    else:
        _show(outcome)


def _write_report(outcome: Outcome, attacked: _Attacked, samples: Samples, path: Path) -> None:
    from keepstone import __version__
    from keepstone.files import write_atomic
    from keepstone.lab.report.html import write_html

    about = {
        "target": attacked.shown,
        "model": "not known" if attacked.subject is None else str(attacked.subject.digest),
        "samples": str(samples.digest),
        "by": f"keepstone {__version__}",
    }
    write_atomic(path, write_html(outcome, attacked.target.domain, about, samples.features))
    say(f"report  {path}", mark="ok")


def _state(
    outcome: Outcome, attacked: _Attacked, samples: Samples, given: dict[str, Any]
) -> dict[str, Any]:
    from keepstone.core.ports import SystemClock
    from keepstone.workspace.attacking import state
    from keepstone.workspace.operations import perform

    assert attacked.subject is not None
    key: KeyReference = given["key"]
    envelope = state(
        attacked.subject,
        outcome,
        samples,
        signing_key(key),
        now=SystemClock().now_ms(),
        lifetime_ms=given["lifetime"],
    )
    path: Path | None = given["statement"]
    if path is not None:
        with path.open("ab") as file:
            file.write(envelope.to_json() + b"\n")
        say(f"stated  {path}", mark="ok")
        return {"file": str(path)}
    answer = perform(site_at(given["root"]), "statement.record", {"envelope": envelope.to_dict()})
    say(f"stated  entry {answer['entry']}", mark="ok")
    return {"entry": answer["entry"]}


def _show(outcome: Outcome) -> None:
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


def _status(outcome: Outcome) -> int:
    from keepstone.errors import Exit
    from keepstone.lab.suites.problem import Verdict

    statuses = {
        Verdict.PASS: Exit.OK,
        Verdict.FAIL: Exit.NO,
        Verdict.INSUFFICIENT: Exit.UNDECIDED,
        Verdict.INVALID: Exit.UNDECIDED,
    }
    return int(statuses[outcome.verdict])
