"""`keepstone deprecate`: let nothing newly point to a version."""

from __future__ import annotations

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.duration import DURATION
from keepstone.cli.output import say


@click.command("deprecate")
@click.argument("version")
@click.option("--reason", required=True, help="Why; it is recorded, and told to who pulls it.")
@click.option(
    "--for", "lasts", type=DURATION, help="After this it may be collected.  [default: never]"
)
@registry_options
def command(version: str, reason: str, lasts: int | None, asking: Asking) -> None:
    """Deprecate VERSION (NAME@3): no alias or stage may newly point to it.

    It is still pulled by its number, with a warning, and what points to it stays.
    """

    asked = {"version": version, "reason": reason, "lasts_ms": lasts}
    answer = asking.perform("registry.deprecate", asked)
    until = "" if answer["until"] is None else f"; it may be collected from {answer['until']} on"
    say(f"{answer['model']}@{answer['number']} is deprecated{until}", mark="ok")
