"""`keepstone promote`: move a stage to a version, with a second pair of eyes where it takes two."""

from __future__ import annotations

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json, say


@click.command("promote")
@click.argument("version")
@click.option("--to", "stage", required=True, help="A stage of the policy.")
@click.option("--withdraw", is_flag=True, help="Take back the proposal.")
@click.option("--note", help="Why; it is recorded.")
@registry_options
@format_option("json")
def command(
    version: str,
    stage: str,
    withdraw: bool,
    note: str | None,
    asking: Asking,
    style: str,
) -> None:
    """Promote VERSION (NAME@3) to a stage, through the gate; back to an older one is the same.

    Where the stage takes four eyes, the first call proposes and nothing moves. The same call by
    another principal, who neither proposed nor pushed it, confirms.
    """

    asked = {"version": version, "stage": stage, "withdraw": withdraw, "note": note}
    answer = asking.perform("registry.promote", asked)
    if style == "json":
        emit_json({"schema": "keepstone.registry-move/v1", **answer})
        return
    exact = f"{answer['model']}@{answer['number']}"
    click.echo(answer["state"])
    if answer["state"] == "proposed":
        say(f"{exact} for {stage} waits for a second principal until {answer['expires']}")
    elif answer["state"] == "withdrawn":
        say(f"{exact} is no longer proposed for {stage}", mark="ok")
    else:
        say(f"{stage} of {answer['model']} is {exact}", mark="ok")
