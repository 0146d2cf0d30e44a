"""`keepstone show`: what is known of a model, or of one version."""

from __future__ import annotations

from typing import Any

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json


@click.command("show")
@click.argument("version")
@registry_options
@format_option("json")
def command(version: str, asking: Asking, style: str) -> None:
    """Show VERSION (NAME@3, NAME@ALIAS, NAME@sha256:DIGEST), or NAME with all its versions.

    Of a version: what the gate says of it now and why, the evidence, its files.
    """

    asked = {"version": version}
    answer = asking.perform("registry.show", asked)
    if style == "json":
        emit_json({"schema": "keepstone.registry-show/v1", **answer})
    elif "versions" in answer:
        _model(answer)
    else:
        _version(answer)


def _model(answer: dict[str, Any]) -> None:
    from keepstone.cli.list import version_table

    click.echo(version_table(answer["versions"]))
    for one in answer["pointers"]:
        click.echo(f"{one['kind']} {one['name']} -> {one['number']}, since {one['since']}")
    _proposals(answer)


def _proposals(answer: dict[str, Any]) -> None:
    for one in answer["proposals"]:
        click.echo(
            f"proposed: version {one['number']} for {one['stage']}, by {one['by']},"
            f" until {one['expires']}"
        )


def _version(answer: dict[str, Any]) -> None:
    click.echo(f"{answer['model']}@{answer['number']}  {answer['digest']}")
    for name in ("format", "scan", "size", "contract", "note"):
        if answer[name] not in (None, ""):
            click.echo(f"  {name:<10} {answer[name]}")
    click.echo(f"  {'pushed':<10} by {answer['pushed']['by']}, {answer['pushed']['at']}")
    for name, value in answer["attributes"].items():
        click.echo(f"  {name:<10} {value}")
    for kind in ("stages", "aliases"):
        if answer[kind]:
            click.echo(f"  {kind:<10} {', '.join(answer[kind])}")
    for warning in answer["warnings"]:
        click.echo(f"  {'warning':<10} {warning}")
    _proposals(answer)
    said = "admits it" if answer["gate"]["allowed"] else "does not admit it"
    click.echo(f"the gate {said} at {answer['endpoint']}")
    for reason in answer["gate"]["reasons"]:
        click.echo(f"  {'yes' if reason['satisfied'] else 'no':<4} {reason['detail']}")
    click.echo("evidence")
    for item in answer["evidence"]:
        click.echo(f"  {item['kind']:<13} by {', '.join(item['by'])}, {item['created']}")
    if answer["files"] is not None:
        click.echo("files")
        for file in answer["files"]:
            click.echo(f"  {file['sha256'][:12]} {file['size']:>14,} {file['path']}")
