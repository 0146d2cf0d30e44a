"""`keepstone registry`: look after the registry itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    as_principal,
    format_option,
    key_file_option,
    plain_http_option,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say, write_ready

if TYPE_CHECKING:
    from keepstone.workspace.registry.serve import ServedAt


@click.group("registry")
def command() -> None:
    """Serve the registry to others, and look after it."""


@command.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8444,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where url, ca, gate_key and pid are written as JSON (mode 0600) once it serves.",
)
@plain_http_option
@workspace_option
def serve(
    host: str, port: int, ready_file: Path | None, unsafe_plain_http: str | None, root: Path
) -> None:
    """Serve the workspace's registry over HTTPS to whom its keys and tokens let in.

    Each principal sees and takes what its grants reach, and nothing else is there for it. The
    commands `push`, `pull`, `list` and so on ask it with --registry URL.
    """
    from keepstone.workspace.listening import ListenOptions
    from keepstone.workspace.registry.serve import serve_registry

    options = ListenOptions(host=host, port=port, unsafe_plain_http=unsafe_plain_http)

    def announce(served: ServedAt) -> None:
        _announce(served)
        if ready_file is not None:
            write_ready(ready_file, _ready(served))

    serve_registry(site_at(root), options, announce)
    say("stopped; everything acknowledged is in the ledger", mark="ok")


def _ready(served: ServedAt) -> dict[str, Any]:
    return {
        "url": served.url,
        "ca": None if served.ca is None else str(served.ca),
        "gate_key": served.gate_key,
        "pid": served.pid,
    }


def _announce(served: ServedAt) -> None:
    ca = "" if served.ca is None else f" --ca {shlex.quote(str(served.ca))}"
    lines = [
        "",
        f"Keepstone serves its registry at {served.url}",
        f"  profile     {served.profile}",
        f"  holds       {served.versions} version(s) of {served.models} model(s)",
        f"  authority   {served.ca or 'none: plain HTTP'}",
        f"  gate's key  {served.gate_key}",
        "",
        "Let somebody in, and let them ask:",
        "  keepstone keys create user:alice --role puller --model NAME --out alice.key",
        f"  keepstone list --registry {served.url}{ca} --key-file alice.key",
        f"  keepstone pull NAME@STAGE --registry {served.url}{ca} --key-file alice.key"
        f" --trust-key {served.gate_key}",
        "",
    ]
    click.echo("\n".join(lines))


@command.command("collect")
@click.option("--dry-run", is_flag=True, help="Say what would go, and drop nothing.")
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="How many of a model's newest versions stay.  [default: all that are not deprecated]",
)
@click.option("--older-than", type=DURATION, help="Nothing younger goes.")
@key_file_option
@workspace_option
@format_option("json")
def collect(
    dry_run: bool,
    keep: int | None,
    older_than: int | None,
    key_file: Path | None,
    root: Path,
    style: str,
) -> None:
    """Drop sealed models that no version names, and versions past their time.

    Never one that an alias or stage points to, that is proposed, about which an approval or
    admission is in force, or that is the newest. A collected version still lists, as collected.
    """
    from keepstone.workspace.operations import perform

    asked = {
        "dry_run": dry_run,
        "keep": keep,
        "older_than_ms": older_than,
        **as_principal(key_file),
    }
    answer = perform(site_at(root), "registry.collect", asked, wait_s=600)
    if style == "json":
        emit_json({"schema": "keepstone.registry-collect/v1", **answer})
        return
    for one in answer["versions"]:
        click.echo(f"{one['model']}@{one['number']}  {one['digest']}")
    for one in answer["orphans"]:
        click.echo(f"{one['model']} (no version)  {one['digest']}")
    would = "would go" if dry_run else "went"
    total = len(answer["versions"]), len(answer["orphans"]), answer["leftovers"]
    say(
        f"{total[0]} version(s), {total[1]} blob(s) of no version and {total[2]} broken-off"
        f" write(s) {would}",
        mark="ok",
    )
