"""`keepstone up`: from a model file to a secured endpoint that can prove itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.options import (
    contract_option,
    plain_http_option,
    site_at,
    workspace_option,
)
from keepstone.cli.output import say, write_ready
from keepstone.cli.progress import Steps

if TYPE_CHECKING:
    from keepstone.workspace.serve import Served

_UNPROVEN = {
    "origin": "origin: no publisher whom the policy names stands behind the model",
    "ranges": "ranges: not declared; inputs are only checked for shape, type and finiteness",
    "robustness": "robustness: the policy asks for no test of it (keepstone attack)",
    "rollback": "rollback: no checkpoint could be kept outside the workspace",
    "transport": "transport: plain HTTP, anyone between can read and change it",
}


@click.command("up")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--name", help="The name to serve it under.  [default: the file's]")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8443,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--profile",
    type=click.Choice(["local", "production"]),
    default="local",
    show_default=True,
    help="Which policy to begin with, where there is no workspace yet.",
)
@click.option(
    "--audit",
    type=click.Choice(["strict", "group"]),
    help="Whether an answer waits until its entry is durable.  [default: as the policy says]",
)
@click.option(
    "--signature",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="An OpenSSF model signing bundle.  [default: MODEL.sig if it exists]",
)
@click.option(
    "--statements",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Signed statements, one a line.  [default: MODEL.statements.jsonl if it exists]",
)
@contract_option
@click.option(
    "--architecture",
    metavar="MODULE:CLASS",
    help="Your code that weights (torch, safetensors) are loaded into. Naming it is consent to"
    " import and run it; it is recorded, and bound in the admission.",
)
@click.option(
    "--sample",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A request body for the printed curl.  [default: sample.json beside MODEL, else made]",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where url, ca, api_key, model and pid are written as JSON (mode 0600) once it serves.",
)
@plain_http_option
@workspace_option
def command(
    model: Path,
    name: str | None,
    host: str,
    port: int,
    profile: str,
    audit: str | None,
    signature: Path | None,
    statements: Path | None,
    contract: Path | None,
    architecture: str | None,
    sample: Path | None,
    ready_file: Path | None,
    unsafe_plain_http: str | None,
    root: Path,
) -> None:
    """Serve MODEL over HTTPS, if signed evidence satisfies the policy.

    MODEL is a file or folder, or a version in the registry: NAME@3, NAME@ALIAS, NAME@STAGE.

    Opens or makes the workspace; copies the model once, scans it, records what was seen, lets
    the policy decide, seals it, loads it verified and serves it. Mints an API key that lives
    24 hours and may call this model's predict and nothing else.
    """
    from dataclasses import replace

    from keepstone.workspace.admit import Submission
    from keepstone.workspace.create import create_workspace
    from keepstone.workspace.registry.admitting import Wanted
    from keepstone.workspace.serve import ServeOptions, up

    site = site_at(root)
    submission: Submission | Wanted
    if "@" in str(model) and not model.exists():
        if any(one is not None for one in (name, signature, statements, contract)):
            raise click.UsageError(
                "A version in the registry has its name, its signatures and its contract."
            )
        submission = Wanted(str(model), architecture)
    else:
        submission = replace(
            Submission.of(model, name=name), contract=contract, architecture=architecture
        )
        if signature is not None:
            submission = replace(submission, signature=signature)
        if statements is not None:
            submission = replace(submission, statements=statements)
    options = ServeOptions(host=host, port=port, audit=audit, unsafe_plain_http=unsafe_plain_http)
    # A version lies in a workspace that is there already.
    if not site.layout.exists() and isinstance(submission, Submission):
        identity = create_workspace(site, profile=profile, hosts=options.hosts)
        say(f"workspace {identity.workspace_id} made at {site.layout.root}", mark="ok")
    beside = model.parent / "sample.json"
    body = sample or (beside if beside.exists() else None)
    body = body.absolute() if body is not None else None

    def announce(served: Served) -> None:
        _announce(served, body)
        if ready_file is not None:
            write_ready(ready_file, _ready(served))

    with Steps() as steps:
        up(site, submission, options, steps, announce)
    say("stopped; everything acknowledged is in the ledger", mark="ok")


def _ready(served: Served) -> dict[str, Any]:
    return {
        "url": served.url,
        "ca": None if served.ca is None else str(served.ca),
        "api_key": served.api_key,
        "model": served.model,
        "pid": served.pid,
    }


def _announce(served: Served, sample: Path | None) -> None:
    """Print where everything is. The key is shown this once."""
    body = sample if sample is not None else served.write_sample()
    certificate = "" if served.ca is None else f"--cacert {shlex.quote(str(served.ca))} "
    infer = f"{served.url}/v2/models/{served.model}/infer"
    lines = [
        "",
        f"Keepstone serves {served.model} at {served.url}",
        f"  profile     {served.profile} (audit {served.audit}, {served.policy_path})",
        f"  model       {served.digest}",
        f"  admission   {served.admission}, until {served.admitted_until}, renewed while it holds",
        f"  API key     {served.api_key}",
        f"              predicts with {served.model} until {served.key_until}, nothing else",
        f"              as a header in {served.header_file}",
        f"  API docs    {served.url}/openapi.json (role reader)",
        f"  metrics     {served.url}/metrics (role metrics)",
        f"  ledger      {served.ledger_size} entries, root {served.ledger_root};"
        " keepstone ledger tail",
        *(f"  not proven  {_UNPROVEN.get(item, item)}" for item in served.not_proven),
        "",
        "Try it:",
        f"  curl {certificate}-H @{shlex.quote(str(served.header_file))}"
        f" -H 'Content-Type: application/json' -d @{shlex.quote(str(body))} {infer}",
        "",
    ]
    click.echo("\n".join(lines))
