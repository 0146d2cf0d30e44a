"""`keepstone token`: a short-lived bearer token."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    conditions,
    conditions_options,
    format_option,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say


@click.command("token")
@click.argument("principal")
@click.option(
    "--role",
    "roles",
    multiple=True,
    default=("caller",),
    show_default=True,
    help="A role of the policy file; may be given again.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model the roles reach; may be given again.  [default: every model]",
)
@conditions_options
@click.option(
    "--lifetime", type=DURATION, default="15m", show_default=True, help="At most one hour."
)
@workspace_option
@format_option("json")
def command(
    principal: str,
    roles: tuple[str, ...],
    models: tuple[str, ...],
    versions: tuple[int, ...],
    where: tuple[str, ...],
    lifetime: int,
    root: Path,
    style: str,
) -> None:
    """Issue a short-lived EdDSA token for PRINCIPAL and print it."""
    from keepstone.workspace.operations import perform

    arguments = {
        "principal": principal,
        "roles": list(roles),
        "models": list(models) or ["*"],
        "lifetime_ms": lifetime,
        **conditions(versions, where),
    }
    answer = perform(site_at(root), "token.issue", arguments)
    if style == "json":
        emit_json({"schema": "keepstone.token/v1", **answer})
        return
    click.echo(answer["token"])
    say(f"token of {principal}, until {answer['expires']}", mark="ok")
