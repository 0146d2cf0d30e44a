"""`keepstone deprecate`: let nothing newly point to a version."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import as_principal, key_file_option, site_at, workspace_option
from keepstone.cli.output import say


@click.command("deprecate")
@click.argument("version")
@click.option("--reason", required=True, help="Why; it is recorded, and told to who pulls it.")
@click.option(
    "--for", "lasts", type=DURATION, help="After this it may be collected.  [default: never]"
)
@key_file_option
@workspace_option
def command(
    version: str, reason: str, lasts: int | None, key_file: Path | None, root: Path
) -> None:
    """Deprecate VERSION (NAME@3): no alias or stage may newly point to it.

    It is still pulled by its number, with a warning, and what points to it stays.
    """
    from keepstone.workspace.operations import perform

    asked = {"version": version, "reason": reason, "lasts_ms": lasts, **as_principal(key_file)}
    answer = perform(site_at(root), "registry.deprecate", asked)
    until = "" if answer["until"] is None else f"; it may be collected from {answer['until']} on"
    say(f"{answer['model']}@{answer['number']} is deprecated{until}", mark="ok")
