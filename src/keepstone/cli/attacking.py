"""What every kind of attack shares on the command line: whom to attack, and how it is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    KEY,
    address_of,
    contract_option,
    read_option_file,
    signing_key,
    site_at,
)
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.core.digest import Digest
    from keepstone.core.subject import Subject
    from keepstone.evidence.dsse import Envelope
    from keepstone.identity.signing import Signatory
    from keepstone.lab.domain import Constraints, Domain
    from keepstone.lab.problem import Verdict
    from keepstone.lab.samples import Samples
    from keepstone.lab.suites.question import Question
    from keepstone.lab.targets.classes import Classes
    from keepstone.lab.targets.port import Target
    from keepstone.workspace.lab.attacking import Wanted

F = TypeVar("F", bound=Callable[..., object])
FILE = click.Path(path_type=Path, dir_okay=False)
_SUITES = ("quick", "standard", "full")
# A path has no scheme; nothing is asked but by TLS.
_OTHER_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_LABEL = "The column, or the array, of labels.  [default: y, label, target or class]"


@dataclass(frozen=True, slots=True)
class Attacked:
    """What is attacked, and as what it is shown; the subject, and how it was wanted, are known of
    files alone."""

    shown: str
    subject: Subject | None
    target: Target
    classes: Classes
    wanted: Wanted | None = None

    @property
    def digest(self) -> Digest | None:
        """Of the model, where it is known."""
        return None if self.subject is None else self.subject.digest


def suite_options(function: F) -> F:
    """How hard a model is attacked, within what, and with how many samples."""
    for option in (
        click.option(
            "--samples",
            type=click.IntRange(1),
            help="How many samples are drawn.  [default: as the suite]",
        ),
        click.option(
            "--budget", type=int, help="The most queries for a sample that an attack may spend."
        ),
        click.option(
            "--eps",
            "epsilons",
            multiple=True,
            type=float,
            help="How large it may be, in the units of the inputs; may be given again.  [default:"
            " linf, a tenth of the inputs' range]",
        ),
        click.option("--norm", help="How a perturbation is measured: linf, l2, l1 or l0."),
        click.option(
            "--suite",
            type=click.Choice(_SUITES),
            default="quick",
            show_default=True,
            help="How much is tried: minutes for a CI, a release, or a night.",
        ),
    ):
        function = option(function)
    return function


def model_options(function: F) -> F:
    """How a model file is read."""
    option = click.option(
        "--architecture", help="For weights alone: the code to import, package.module:Class."
    )
    return option(contract_option(input_options(function)))


def input_options(function: F) -> F:
    """What is known of a model's inputs and classes, and of its samples."""
    for option in (
        click.option("--high", type=float, help="The greatest value."),
        click.option(
            "--low", type=float, help="The least value of an input whose range nobody declares."
        ),
        click.option("--classes", help="The classes' names in the order of the scores: a,b,c."),
        click.option("--label", help=_LABEL),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**63 - 1),
            default=0,
            show_default=True,
            help="What is drawn by.",
        ),
    ):
        function = option(function)
    return function


def address_options(function: F) -> F:
    """How a model behind an address is asked."""
    for option in (
        click.option(
            "--ca", type=FILE, help="Certificates (PEM) to trust instead of the system's."
        ),
        click.option("--key-file", type=FILE, help="A file with the API key or token to ask with."),
        click.option(
            "--within",
            type=DURATION,
            default="1h",
            show_default=True,
            help="With an address: how long it may all take. What is not asked by then is not"
            " answered.",
        ),
        click.option("--model", help="With an address: the model's name there."),
    ):
        function = option(function)
    return function


def statement_options(function: F) -> F:
    """Whether what comes of it becomes evidence."""
    for option in (
        click.option(
            "--lifetime",
            type=DURATION,
            default="30d",
            show_default=True,
            help="With --as: how long the statement holds.",
        ),
        click.option(
            "--name",
            help="With --as: the name that the model is served under.  [default: the file's]",
        ),
        click.option(
            "--statement",
            type=FILE,
            help="With --as: append the statement to this file, and record it nowhere.",
        ),
        click.option(
            "--as",
            "key",
            type=KEY,
            help="Sign the result as evidence about the model, and record it in the workspace.",
        ),
    ):
        function = option(function)
    return function


def check_options(target: str, given: dict[str, Any], states: str | None = None) -> None:
    """Before anything is read or spent: that all of it can be used, and what comes of it has where
    to go. `states` is the kind of what would be stated.

    Raises a usage error for options that do not go together; InputError `target.bad_url`; and as
    `check_statement` and `check_places`.
    """
    remote = target.startswith("https://")
    if not remote and _OTHER_ADDRESS.match(target):
        from keepstone.lab.targets.remote import bad_url

        raise bad_url(target)
    if remote != (given.get("model") is not None):
        raise click.UsageError("An address and --model go together.")
    if remote and given.get("key") is not None:
        raise click.UsageError(
            "What is served at an address says nothing of which file it is: --as needs a file."
        )
    if remote and given.get("contract") is not None:
        raise click.UsageError("An address says itself what it takes: --contract goes with a file.")
    check_statement(given, states)
    check_places(given)


def check_places(given: dict[str, Any]) -> None:
    """Raises as `require_place`; InputError `file.exists` for one path that is named twice."""
    from keepstone.files import exists, require_place

    # Whatever is there of the others is added to.
    over = {"report": given.get("force", False), "statement": True, "kept": True}
    seen = set()
    for name in over:
        path: Path | None = given.get(name)
        if path is None:
            continue
        require_place(path, replace=over[name])
        if path.absolute() in seen:
            raise exists(path)
        seen.add(path.absolute())


def check_statement(given: dict[str, Any], states: str | None) -> None:
    """Open the key of `statement_options`, and see that the workspace takes its word.

    Raises a usage error for what does not go together; what `signing_key` and
    `require_recordable` raise.
    """
    key = given.get("key")
    # Before anything is spent: a key that cannot be opened signs nothing in the end.
    if key is not None:
        given["signatory"] = signing_key(key)
    if key is None and (given.get("statement") is not None or given.get("name") is not None):
        raise click.UsageError("--statement and --name go with --as.")
    if key is not None and given["statement"] is None:
        from keepstone.workspace.statements import require_recordable

        require_recordable(site_at(given["root"]), given["signatory"], str(states))


@contextmanager
def opened_target(
    target: str, samples: Samples, given: dict[str, Any], *, gradient: bool = False
) -> Iterator[Attacked]:
    """`gradient` says whether a file's is wanted, where it takes a library to have it."""
    if target.startswith("https://"):
        with _remote(target, samples, given) as found:
            yield found
        return
    from keepstone.workspace.lab.attacking import open_model

    wanted = replace(
        wanted_model(given, gradient=gradient), constraints=_constraints(samples, given)
    )
    with open_model(Path(target), samples, wanted) as opened:
        yield Attacked(target, opened.subject, opened.target, opened.classes, wanted)


@contextmanager
def _remote(url: str, samples: Samples, given: dict[str, Any]) -> Iterator[Attacked]:
    from keepstone.lab.targets.classifier import RemoteClassifier
    from keepstone.workspace.lab.attacking import require_fit

    address = address_of(url, given["model"], given["key_file"], given["ca"])
    limits = {
        "low": given["low"],
        "high": given["high"],
        "constraints": _constraints(samples, given),
        "in_all": given["within"] / 1000,
        **given.get("remote", {}),
    }
    with RemoteClassifier(address, samples.y, _classes(given), **limits) as target:
        require_fit(samples, target.domain)
        yield Attacked(address.shown, None, target, target.names)
        if target.remote.refusals:
            say(
                f"{target.remote.refusals} requests were refused for their number, and"
                f" {target.remote.waited_s:.0f} s waited for it: ask with a key of more.",
                mark="warn",
            )


def question_of(domain: Domain, samples: int, given: dict[str, Any]) -> Question:
    """What `suite_options` ask of a model with this domain."""
    from keepstone.lab.suites.question import AT_LEAST, Question, asked

    norm, epsilons = asked(given["norm"], given["epsilons"], domain)
    at_least = given.get("at_least", AT_LEAST)
    return Question(norm, epsilons, samples, at_least, given["budget"], given["seed"])


def wanted_model(given: dict[str, Any], *, gradient: bool = False) -> Wanted:
    """How a file is to be read, as `model_options` say; with its `gradient`, if that takes more."""
    from keepstone.workspace.lab.attacking import Wanted

    names = _classes(given)
    contract: Path | None = given["contract"]
    return Wanted(
        given["architecture"],
        given["low"],
        given["high"],
        names,
        gradient=gradient,
        # As another process finds it.
        contract=None if contract is None else contract.absolute(),
    )


def _constraints(samples: Samples, given: dict[str, Any]) -> Constraints | None:
    from keepstone.lab.constraints import MAX_FILE, read_constraints

    path = given.get("constraints")
    if path is None:
        return None
    data = read_option_file(path, MAX_FILE)
    return read_constraints(data, samples.x.shape[1], samples.features)


def _classes(given: dict[str, Any]) -> tuple[str, ...]:
    return tuple(given["classes"].split(",")) if given["classes"] else ()


def record(
    subject: Subject,
    make: Callable[[Subject, Signatory, int], Envelope],
    given: dict[str, Any],
) -> dict[str, Any]:
    """Sign what `make` states at a time, and record it in the workspace or append it to a file."""
    from keepstone.core.ports import SystemClock
    from keepstone.core.subject import Subject as Named
    from keepstone.files import append_line
    from keepstone.workspace.operations import perform

    key: Signatory = given["signatory"]
    if given["name"] is not None:
        subject = Named(given["name"], subject.digest)
    envelope = make(subject, key, SystemClock().now_ms())
    path: Path | None = given["statement"]
    if path is not None:
        append_line(path, envelope.to_json())
        say(f"stated  {path}", mark="ok")
        return {"file": str(path)}
    answer = perform(site_at(given["root"]), "statement.record", {"envelope": envelope.to_dict()})
    say(f"stated  entry {answer['entry']}", mark="ok")
    return {"entry": answer["entry"]}


def status_of(verdict: Verdict) -> int:
    """0 pass; 1 fail; 3 insufficient or invalid: no number that could be relied on."""
    from keepstone.errors import Exit
    from keepstone.lab.problem import Verdict

    statuses = {
        Verdict.PASS: Exit.OK,
        Verdict.FAIL: Exit.NO,
        Verdict.INSUFFICIENT: Exit.UNDECIDED,
        Verdict.INVALID: Exit.UNDECIDED,
    }
    return int(statuses[verdict])
