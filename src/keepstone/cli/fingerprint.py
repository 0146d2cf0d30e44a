"""`keepstone fingerprint`: commit to a model's answers to secret questions; ask suspects them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from keepstone.cli.options import (
    address_of,
    format_option,
    read_option_file,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say, table

if TYPE_CHECKING:
    from keepstone.lab.ownership.judge import Judgement, Null
    from keepstone.lab.targets.endpoint import EndpointTarget

F = TypeVar("F", bound=Callable[..., object])
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("fingerprint")
def command() -> None:
    """Tell whether a suspect model answers too much like one of yours to be independent."""


@command.command("create")
@click.argument("model")
@click.option(
    "--count", type=int, default=150, show_default=True, help="How many changes of its answer."
)
@click.option(
    "--output", help="The output that is its answer.  [default: its labels, or the first]"
)
@click.option("--architecture", help="For weights alone: the code to import, package.module:Class.")
@click.option(
    "--independent",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A model for the same task that was trained apart; may be given again. The chance of a"
    " false match is measured on them, and else assumed.",
)
@click.option(
    "--independent-output", help="Their output that is their answer.  [default: as --output]"
)
@click.option("--low", type=float, help="The least value of an input whose contract declares none.")
@click.option("--high", type=float, help="The greatest value.")
@workspace_option
@format_option("json")
def create(
    model: str,
    count: int,
    output: str | None,
    architecture: str | None,
    independent: tuple[Path, ...],
    independent_output: str | None,
    low: float | None,
    high: float | None,
    root: Path,
    style: str,
) -> None:
    """Make a fingerprint of MODEL, which this workspace admits.

    MODEL is asked secret inputs; what it answers near its changes of mind is committed in the
    ledger, and the inputs stay encrypted in the workspace.
    """
    from keepstone.workspace.fingerprint import Wanted, create

    wanted = Wanted(model, count, output, architecture, independent, independent_output, low, high)
    found = create(site_at(root), wanted)
    if style == "json":
        emit_json({"schema": "keepstone.fingerprint/v1", **found.to_dict()})
    else:
        click.echo(found.name)
    say(f"committed to {count} crossings of {found.subject} as entry {found.entry}", mark="ok")
    say(
        f"An independent model shows at most {found.null.rate:.0%} of them ({found.null.how}).",
        mark="ok" if found.null.models else "warn",
    )
    _say_power(count, found.null)


@command.command("list")
@workspace_option
@format_option("json")
def list_fingerprints(root: Path, style: str) -> None:
    """List the fingerprints that the ledger commits to."""
    from keepstone.workspace.fingerprint_record import fingerprints

    found = [one.to_dict() for one in fingerprints(site_at(root))]
    if style == "json":
        emit_json({"schema": "keepstone.fingerprints/v1", "fingerprints": found})
        return
    columns = ("id", "time", "model", "kind", "crossings", "null_rate", "null", "entry")
    click.echo(table([tuple(str(one[name]) for name in columns) for one in found], columns))


def suspect_options(function: F) -> F:
    """Whom to ask: a file, or an endpoint."""
    for option in (
        click.option("--suspect-output", help="The suspect's output that is its answer."),
        click.option(
            "--suspect-input",
            help="With --suspect-output: the endpoint's input, for a key that may not read it.",
        ),
        click.option(
            "--ca", type=_FILE, help="Certificates (PEM) to trust instead of the system's."
        ),
        click.option(
            "--key-file", type=_FILE, help="A file with the API key or token to ask with."
        ),
        click.option("--model", help="The suspect's name at the endpoint."),
        click.option(
            "--endpoint", metavar="URL", help="Ask https://HOST (Open Inference Protocol v2)."
        ),
        click.argument("suspect", required=False, type=click.Path(path_type=Path)),
    ):
        function = option(function)
    return function


@command.command("check")
@click.argument("fingerprint")
@suspect_options
@workspace_option
@format_option("json")
def check(
    fingerprint: str,
    suspect: Path | None,
    endpoint: str | None,
    model: str | None,
    key_file: Path | None,
    ca: Path | None,
    suspect_input: str | None,
    suspect_output: str | None,
    root: Path,
    style: str,
) -> int:
    """Ask the model in the file SUSPECT, or at --endpoint, the questions of FINGERPRINT.

    A file is scanned first and loaded in a limited child. A match means that its answers are too
    much alike for an independent model; it does not say who took what. The result is recorded.

    Exit status: 0 no match; 1 match; 3 insufficient.
    """
    from keepstone.workspace.fingerprint import check_file, check_target

    _one_suspect(suspect, endpoint, model)
    site = site_at(root)
    if suspect is not None:
        found = check_file(site, fingerprint, suspect, suspect_output)
    else:
        target = _target(endpoint, model, key_file, ca, suspect_input, suspect_output)
        found = check_target(site, fingerprint, target.ask, target.address.shown)
    if style == "json":
        emit_json(found.to_dict())
    else:
        _show(found.judgement)
        say(f"recorded as entry {found.entry}", mark="ok")
    return _status(found.judgement)


@command.command("open")
@click.argument("fingerprint")
@click.option("--out", required=True, type=_FILE, help="Where the document goes.")
@click.option("--count", type=int, help="Open only so many.  [default: all]")
@workspace_option
def open_command(fingerprint: str, out: Path, count: int | None, root: Path) -> None:
    """Open FINGERPRINT to an auditor: its questions, and the proof of when it was committed.

    What is opened is secret no more: whoever reads it can train a model to answer otherwise.
    """
    from keepstone.files import write_atomic
    from keepstone.workspace.fingerprint_opening import open_fingerprint
    from keepstone.workspace.fingerprint_record import find

    site = site_at(root)
    write_atomic(out, open_fingerprint(site, fingerprint, count))
    say(f"{out}: verify it with keepstone fingerprint verify", mark="ok")
    found = find(site, fingerprint)
    _say_power(count or len(found.committed), found.null)


@command.command("verify")
@click.argument("opened", type=_FILE)
@click.option("--vkey", required=True, help="The ledger's verifier key (`ledger checkpoint`).")
@suspect_options
@format_option("json")
def verify(
    opened: Path,
    vkey: str,
    suspect: Path | None,
    endpoint: str | None,
    model: str | None,
    key_file: Path | None,
    ca: Path | None,
    suspect_input: str | None,
    suspect_output: str | None,
    style: str,
) -> int:
    """Verify the document OPENED offline; with a suspect, ask it the questions too.

    Needs no workspace. Exit status: 0 it verifies, and no match; 1 it does not verify, or a
    match; 3 insufficient.
    """
    from keepstone.workspace.fingerprint_opening import verify_opening
    from keepstone.workspace.suspect import open_suspect

    found = verify_opening(read_option_file(opened, 256 << 20), vkey)
    judgement = None
    if suspect is not None or endpoint is not None:
        _one_suspect(suspect, endpoint, model)
        if suspect is not None:
            with open_suspect(suspect, suspect_output) as loaded:
                judgement = found.judge(loaded.target.ask)
        else:
            judgement = found.judge(
                _target(endpoint, model, key_file, ca, suspect_input, suspect_output).ask
            )
    if style == "json":
        document = {"schema": "keepstone.fingerprint-verify/v1", **found.fingerprint.to_dict()}
        judged = {} if judgement is None else judgement.to_dict()
        emit_json(document | {"opened": len(found.openings)} | judged)
    else:
        said = found.fingerprint.to_dict()
        click.echo(f"{said['id']} of {found.fingerprint.subject}, committed {said['time']}")
        click.echo(f"  {len(found.openings)} of {said['crossings']} crossings opened")
        if judgement is not None:
            _show(judgement)
    return 0 if judgement is None else _status(judgement)


def _say_power(count: int, null: Null) -> None:
    """Warn where so many crossings give no suspect a `no match`."""
    from keepstone.lab.ownership.judge import POWER, power_of

    power = power_of(count, null)
    if power < POWER:
        say(
            f"{count} crossings find a copy with the chance {power:.2f}, and `no match` takes"
            f" {POWER}: what does not match will be insufficient. Take more (--count).",
            mark="warn",
        )


def _one_suspect(suspect: Path | None, endpoint: str | None, model: str | None) -> None:
    if (suspect is None) == (endpoint is None):
        raise click.UsageError("Give a suspect file, or --endpoint.")
    if (endpoint is None) != (model is None):
        raise click.UsageError("--endpoint and --model go together.")


def _target(
    endpoint: str | None,
    model: str | None,
    key_file: Path | None,
    ca: Path | None,
    input: str | None,
    output: str | None,
) -> EndpointTarget:
    from keepstone.lab.targets.endpoint import EndpointTarget

    return EndpointTarget(address_of(str(endpoint), str(model), key_file, ca), output, input)


def _show(found: Judgement) -> None:
    click.echo(
        f"{found.outcome.value}: {found.matches} of {found.answered} crossings match"
        f" ({found.needed} needed), p = {found.p_value:.3g}, power {found.power:.2f}"
    )
    if found.answered < found.asked:
        say(f"{found.asked - found.answered} were not answered.", mark="warn")


def _status(found: Judgement) -> int:
    from keepstone.errors import Exit
    from keepstone.lab.ownership.judge import Outcome

    statuses = {
        Outcome.MATCH: Exit.NO,
        Outcome.NO_MATCH: Exit.OK,
        Outcome.INSUFFICIENT: Exit.UNDECIDED,
    }
    return int(statuses[found.outcome])
