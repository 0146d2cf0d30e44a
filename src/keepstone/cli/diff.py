"""`keepstone diff`: how two versions differ."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import (
    as_principal,
    format_option,
    key_file_option,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json


@click.command("diff")
@click.argument("a")
@click.argument("b")
@key_file_option
@workspace_option
@format_option("json")
def command(a: str, b: str, key_file: Path | None, root: Path, style: str) -> int:
    """Compare the versions A and B: files, contract, attributes, scan and evidence.

    Exit status: 0 they are the same artifact; 1 they differ.
    """
    from keepstone.errors import Exit
    from keepstone.workspace.operations import perform

    asked = {"a": a, "b": b, **as_principal(key_file)}
    answer = perform(site_at(root), "registry.diff", asked)
    code = int(Exit.OK if answer["same"] else Exit.NO)
    if style == "json":
        emit_json({"schema": "keepstone.registry-diff/v1", **answer})
        return code
    for name, (before, after) in answer["changed"].items():
        click.echo(f"{name}: {before} -> {after}")
    for sign, kind in (("-", "removed"), ("+", "added")):
        for file in answer["files"][kind]:
            click.echo(f"{sign} {file['path']}  {file['size']:,} bytes")
    for file in answer["files"]["changed"]:
        sizes = f"{file['a']['size']:,} -> {file['b']['size']:,} bytes"
        click.echo(f"! {file['path']}  {sizes}")
    for label, items in zip((answer["a"], answer["b"]), answer["evidence"], strict=True):
        click.echo(f"evidence of {label}: " + (", ".join(one["kind"] for one in items) or "none"))
    return code
