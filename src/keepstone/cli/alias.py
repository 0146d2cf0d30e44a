"""`keepstone alias`: a name of one's own for a version."""

from __future__ import annotations

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json, say


@click.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Take the alias away; no VERSION is given then.")
@click.option("--note", help="Why; it is recorded.")
@registry_options
@format_option("json")
def command(
    name: str,
    alias: str,
    version: str | None,
    remove: bool,
    note: str | None,
    asking: Asking,
    style: str,
) -> None:
    """Point ALIAS of the model NAME to VERSION: a number, or sha256:DIGEST.

    The gate says yes to the version first. A stage of the policy is no alias: see promote.
    """

    if remove == (version is not None):
        raise click.UsageError("Give a VERSION, or --remove.")
    asked = {
        "version": name if remove else f"{name}@{version}",
        "alias": alias,
        "remove": remove,
        "note": note,
    }
    answer = asking.perform("registry.alias", asked)
    if style == "json":
        emit_json({"schema": "keepstone.registry-move/v1", **answer})
        return
    now = "nothing" if answer["number"] is None else f"{name}@{answer['number']}"
    before = "nothing" if answer["was"] is None else f"{name}@{answer['was']}"
    say(f"{alias} of {name} is {now}, before {before} ({answer['state']})", mark="ok")
