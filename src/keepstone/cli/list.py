"""`keepstone list`: the versions that one may see."""

from __future__ import annotations

from typing import Any

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json, say, table


@click.command("list")
@click.argument("model", required=False)
@click.option("--after", metavar="NAME@N", help="Go on after this one: `next` of the page before.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    help="How many lines a page has.",
)
@registry_options
@format_option("json")
def command(model: str | None, after: str | None, limit: int, asking: Asking, style: str) -> None:
    """List the versions in the registry, of every model or of MODEL."""

    asked = {"model": model, "after": after, "limit": limit}
    answer = asking.perform("registry.list", asked)
    if style == "json":
        emit_json({"schema": "keepstone.registry-list/v1", **answer})
        return
    click.echo(version_table(answer["versions"]))
    if answer["next"] is not None:
        say(f"There are more: --after {answer['next']}")


def version_table(versions: list[dict[str, Any]]) -> str:
    """Versions for a terminal, one a line."""
    rows = [
        (
            f"{one['model']}@{one['number']}",
            one["digest"].removeprefix("sha256:")[:12],
            one["format"],
            one["scan"].replace("_", " "),
            ", ".join([*one["stages"], *one["aliases"]]),
            " ".join(f"{name}={value}" for name, value in one["attributes"].items()),
            _state(one),
        )
        for one in versions
    ]
    return table(rows, ("version", "digest", "format", "scan", "at", "attributes", "state"))


def _state(one: dict[str, Any]) -> str:
    if one["collected"]:
        return "collected"
    return "" if one["deprecated"] is None else "deprecated"
