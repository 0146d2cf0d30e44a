"""`keepstone bom`: a CycloneDX ML-BOM of one model, and whether one still holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import (
    KEY,
    format_option,
    read_option_file,
    signing_key,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit, emit_json, say

if TYPE_CHECKING:
    from keepstone.governance.facts import Seen
    from keepstone.identity.keystores.reference import KeyReference
    from keepstone.workspace.bom import Checked


@click.command("bom")
@click.argument("model")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the document there instead of printing it.",
)
@click.option(
    "--packages",
    multiple=True,
    type=click.Path(path_type=Path),
    help="List the packages of this lock file, environment or image folder; may be given again.",
)
@click.option(
    "--as",
    "key",
    type=KEY,
    help="With --output: sign the document with this key, record that, and leave the envelope"
    " beside it (.intoto.json).",
)
@click.option(
    "--check",
    "checked",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of writing one: say in which fields this document is no longer true.",
)
@click.option("--endpoint", default="local", show_default=True, help="Where the gate judges it.")
@workspace_option
@format_option("json")
def command(
    model: str,
    output: Path | None,
    packages: tuple[Path, ...],
    key: KeyReference | None,
    checked: Path | None,
    endpoint: str,
    root: Path,
    style: str,
) -> int | None:
    """Write a CycloneDX 1.6 bill of materials of MODEL (a name, or its digest).

    It holds the model card, datasets, framework, packages, signatures and evidence, as far as
    statements in the ledger say them; what is not known is absent, and listed as unknown. The
    document is JSON in either --format, which is that of --check's answer.

    Exit status with --check: 0 it still holds; 1 a field differs; 3 all else holds, and its
    packages were not looked at (give --packages).
    """
    from keepstone.files import write_atomic
    from keepstone.governance.bom import to_bytes
    from keepstone.workspace.bom import bom_of, check_bom, sign_bom

    if checked is not None and (output is not None or key is not None):
        raise click.UsageError("--check writes and signs nothing.")
    if key is not None and output is None:
        raise click.UsageError("--as needs --output.")
    site, found = site_at(root), _packages(packages)
    if checked is not None:
        data = read_option_file(checked, 64 << 20)
        return _report(check_bom(site, model, endpoint, data, found), style)
    document = bom_of(site, model, endpoint, found)
    data = to_bytes(document)
    if output is None:
        emit(data.decode(), nl=False)
        return None
    if key is not None:
        # Signed and recorded first: a document that was to be signed is never left without.
        entry, envelope = sign_bom(site, document, data, signing_key(key))
        write_atomic(output.with_name(f"{output.name}.intoto.json"), envelope, mode=0o644)
        say(f"signed as entry {entry}", mark="ok")
    write_atomic(output, data, mode=0o644)
    say(f"{document['serialNumber']}: {output}", mark="ok")
    return None


def _packages(paths: tuple[Path, ...]) -> Seen | None:
    if not paths:
        return None
    from keepstone.governance.facts import Seen
    from keepstone.scan.packages.inventory import Inventory
    from keepstone.scan.packages.places import look

    found = sum(map(look, paths), start=Inventory())
    unread = tuple(" ".join(filter(None, (f"{o.path}:", o.name, o.reason))) for o in found.open)
    return Seen(found.packages, unread)


def _report(checked: Checked, style: str) -> int:
    from keepstone.errors import Exit

    not_compared = checked.packages is None
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.bom-check/v1",
                "model": checked.subject.name,
                "digest": str(checked.subject.digest),
                "matches": checked.matches,
                "packages": "not_compared" if not_compared else "compared",
                "signed": [{"by": by, "entry": entry} for by, entry in checked.signed],
                "differences": [
                    {"field": one.path, "document": one.document, "workspace": one.workspace}
                    for one in checked.differences
                ],
            }
        )
    else:
        for one in checked.differences:
            click.echo(f"{one.path}: {_shown(one.document)}, now {_shown(one.workspace)}")
        for by, entry in checked.signed:
            say(f"signed by {by}, entry {entry}", mark="ok")
        if not checked.signed:
            say("Nobody whose word counts signed this very document.", mark="warn")
        if not_compared:
            say("Its packages were not compared: give --packages.", mark="warn")
        if checked.matches:
            say(f"It says of {checked.subject} what the workspace knows.", mark="ok")
    if not checked.matches:
        return int(Exit.NO)
    return int(Exit.UNDECIDED if not_compared else Exit.OK)


def _shown(value: str | None) -> str:
    return "absent" if value is None else repr(value)
