"""`keepstone mlflow`: evidence for the models of an MLflow registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keepstone.cli.options import format_option, site_at, workspace_option
from keepstone.cli.output import emit_json, say


@click.group("mlflow")
def command() -> None:
    """Admit versions of MLflow models, and move their aliases with evidence."""


def _tracking_option(function: Any) -> Any:
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        help="The MLflow that keeps the model.",
    )(function)


@command.command("admit")
@click.argument("version", metavar="models:/NAME/VERSION")
@click.option(
    "--signature",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="An OpenSSF model signing bundle over the version's files.",
)
@click.option(
    "--statements",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Signed statements about it, one a line.",
)
@_tracking_option
@format_option("json")
@workspace_option
def admit(
    version: str,
    signature: Path | None,
    statements: Path | None,
    tracking_uri: str | None,
    style: str,
    root: Path,
) -> int:
    """Fetch a version, scan it, state which files it is, and ask the gate.

    Exit status: 0 it may be loaded; 1 it may not, or its files changed since; 3 it could not be
    judged.
    """
    from keepstone.errors import Exit
    from keepstone.integrations.mlflow.admitting import Brought, Version, admit_version

    brought = Brought(Version.parse(version), tracking_uri, signature, statements)
    said = admit_version(site_at(root), brought)
    if style == "json":
        emit_json({"schema": "keepstone.mlflow-admit/v1", "version": version} | said)
    else:
        _show(version, said)
    if said["errors"]:
        return int(Exit.UNDECIDED)
    return int(Exit.OK if said["allowed"] else Exit.NO)


def _show(version: str, said: dict[str, Any]) -> None:
    for warning in said["warnings"]:
        say(warning, mark="warn")
    click.echo(f"{said['name']} {said['digest']}")
    if said["allowed"]:
        say(f"{version} may be loaded", mark="ok")
    for one in said["missing"]:
        say(f"{one['detail']} ({one['rule']})", mark="fail")
        if one["remedy"]:
            say(f"  {one['remedy']}")
    for item in said["not_proven"]:
        say(f"not proven: {item}", mark="warn")


@command.command("promote")
@click.argument("version", metavar="models:/NAME/VERSION")
@click.option("--alias", required=True, help="The alias that is to point at it.")
@_tracking_option
@workspace_option
def promote(version: str, alias: str, tracking_uri: str | None, root: Path) -> None:
    """Move an alias to a version that the gate says yes to, and state that it moved."""
    from keepstone.integrations.mlflow.admitting import Version, promote_version

    said = promote_version(site_at(root), Version.parse(version), alias, tracking_uri)
    click.echo(f"{said['name']} {said['digest']}")
    say(f"{alias} is {version}", mark="ok")
