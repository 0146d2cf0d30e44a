"""`keepstone pull`: a version out of the registry, verified, with what verifies it elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.duration import DURATION
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json, say


@click.command("pull")
@click.argument("version")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where it goes; nothing may be there.  [default: NAME in the current folder]",
)
@click.option(
    "--examine",
    metavar="REASON",
    help="Take out what the gate does not admit, to look at it; REASON is recorded.",
)
@click.option(
    "--trust-for",
    "trust_ms",
    type=DURATION,
    default="24h",
    show_default=True,
    help="How long the trust bundle beside it may be used.",
)
@click.option("--no-trust", is_flag=True, help="Write no trust bundle.")
@registry_options
@format_option("json")
def command(
    version: str,
    out: Path | None,
    examine: str | None,
    trust_ms: int,
    no_trust: bool,
    asking: Asking,
    style: str,
) -> None:
    """Pull VERSION: NAME@3, NAME@ALIAS, NAME@STAGE or NAME@sha256:DIGEST.

    The gate says yes to it now, or nothing is written. Beside it goes a trust bundle, with which
    another machine asks the same policy: keepstone verify MODEL --trust MODEL.trust.
    """
    from keepstone.cli.push import LONG_S
    from keepstone.vault.registry.reference import Reference

    target = (out or Path(Reference.parse(version).name)).absolute()
    asked = {
        "version": version,
        "target": str(target),
        "examine": examine,
        "trust_ms": None if no_trust else trust_ms,
    }
    answer = asking.perform("registry.pull", asked, wait_s=LONG_S)
    for warning in answer["warnings"]:
        say(warning, mark="warn")
    if style == "json":
        emit_json({"schema": "keepstone.registry-pull/v1", **answer})
        return
    click.echo(answer["target"])
    say(f"{answer['model']}@{answer['number']}, {answer['digest']}", mark="ok")
    if answer["trust"] is not None:
        say(f"trust bundle {answer['trust']}, signed by the gate's key {answer['gate_key']}")
