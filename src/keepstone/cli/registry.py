"""`keepstone registry`: look after the registry itself."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    as_principal,
    format_option,
    key_file_option,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say


@click.group("registry")
def command() -> None:
    """Look after the registry: collect what nobody names and nothing keeps."""


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
    total = len(answer["versions"]), len(answer["orphans"])
    say(f"{total[0]} version(s) and {total[1]} blob(s) of no version {would}", mark="ok")
