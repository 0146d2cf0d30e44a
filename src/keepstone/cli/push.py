"""`keepstone push`: a model becomes a version in the registry."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.options import format_option, whole
from keepstone.cli.output import emit_json, say

# A large model takes as long as its bytes do.
LONG_S = 3600.0
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("push")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--name", help="The model it is a version of.  [default: the file's]")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="An attribute that the policy asks for; may be given again.",
)
@click.option("--note", help="One line about this version; it is recorded.")
@click.option(
    "--signature", type=_FILE, help="An OpenSSF model signing bundle.  [default: MODEL.sig]"
)
@click.option(
    "--statements",
    type=_FILE,
    help="Signed statements, one a line.  [default: MODEL.statements.jsonl]",
)
@click.option(
    "--contract",
    type=_FILE,
    help="What the model accepts and returns (JSON), for formats that do not say it.",
)
@click.option(
    "--architecture",
    metavar="MODULE:CLASS",
    help="Your code that weights are loaded into. Naming it is consent to import it.",
)
@registry_options
@format_option("json")
def command(
    model: Path,
    name: str | None,
    attributes: tuple[str, ...],
    note: str | None,
    signature: Path | None,
    statements: Path | None,
    contract: Path | None,
    architecture: str | None,
    asking: Asking,
    style: str,
) -> None:
    """Push MODEL, a file or folder, as the next version under its name.

    It is copied once, scanned and sealed; then it is a version, and never changes. What the scan
    flags is refused. What it could not judge is kept, and nothing may point to it. The same bytes
    again are the version that they already are.
    """
    from keepstone.workspace.intake import Submission

    found = Submission.of(model, name=name)
    asked = {
        "path": whole(model),
        "model": found.name,
        "signature": whole(signature or found.signature),
        "statements": whole(statements or found.statements),
        "contract": whole(contract),
        "architecture": architecture,
        "attributes": pairs(attributes),
        "note": note,
    }
    answer = asking.perform("registry.push", asked, wait_s=LONG_S)
    for warning in answer["warnings"]:
        say(warning, mark="warn")
    if style == "json":
        emit_json({"schema": "keepstone.registry-push/v1", **answer})
        return
    click.echo(f"{answer['model']}@{answer['number']}")
    done = "was pushed before" if answer["known"] else f"is recorded as {answer['entry']}"
    say(f"{answer['digest']} {done}; scan {answer['scan'].replace('_', ' ')}", mark="ok")


def pairs(attributes: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE`, each name once. Raises a usage error."""
    found: dict[str, str] = {}
    for text in attributes:
        name, equals, value = text.partition("=")
        if not equals or name in found:
            raise click.BadParameter(
                f"{text!r} is not NAME=VALUE, or its name was given before",
                param_hint="--attribute",
            )
        found[name] = value
    return found
