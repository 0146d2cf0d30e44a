"""`keepstone diff`: how two versions differ."""

from __future__ import annotations

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json


@click.command("diff")
@click.argument("a")
@click.argument("b")
@registry_options
@format_option("json")
def command(a: str, b: str, asking: Asking, style: str) -> int:
    """Compare the versions A and B: files, contract, attributes, scan and evidence.

    Exit status: 0 they are the same artifact; 1 they differ.
    """
    from keepstone.errors import Exit

    asked = {"a": a, "b": b}
    answer = asking.perform("registry.diff", asked)
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
