"""`keepstone vulndb`: fetch, show and verify a folder of known vulnerabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import format_option
from keepstone.cli.output import emit_json, say, table

if TYPE_CHECKING:
    from keepstone.scan.vulndb.record import DatabaseRecord

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group("vulndb")
def command() -> None:
    """Keep a folder of OSV records, which `keepstone scan deps --osv DIR` judges by."""


@command.command("update")
@click.option("--into", "folder", required=True, type=_FOLDER, help="The database folder.")
@click.option(
    "--ecosystem",
    "ecosystems",
    multiple=True,
    metavar="NAME",
    help="One of OSV's, such as PyPI or Debian:12; may be given again. Those in the folder are"
    " updated as well.",
)
@click.option(
    "--from",
    "base",
    metavar="URL",
    help="Where NAME/all.zip lies.  [default: OSV's public bucket]",
)
@click.option(
    "--insecure-http",
    is_flag=True,
    help="Take it over plain HTTP from another machine, too: anybody on the way may change it.",
)
def update(
    folder: Path, ecosystems: tuple[str, ...], base: str | None, insecure_http: bool
) -> None:
    """Fetch what is new, check it whole, and swap the folder in one step.

    Whatever fails, the folder stays as it was. Needs the extra `http`.
    """
    from keepstone.scan.vulndb.update import OSV, UpdateOptions
    from keepstone.scan.vulndb.update import update as bring

    options = UpdateOptions(base=base or OSV, insecure_http=insecure_http)
    record = bring(
        folder, ecosystems, options, observer=lambda name, told: say(f"{name}: {told}", mark="ok")
    )
    say(f"{folder} has {record.digest}, {record.records} records", mark="ok")


@command.command("show")
@click.argument("folder", type=_FOLDER)
@format_option("json")
def show(folder: Path, style: str) -> None:
    """Tell what FOLDER holds: ecosystems, records, where from, how old, and the digest.

    It reads the record alone; `keepstone vulndb verify` looks at the data.
    """
    from keepstone.scan.vulndb.record import read_record

    record = read_record(folder)
    _print(record, style)


@command.command("verify")
@click.argument("folder", type=_FOLDER)
@format_option("json")
def verify(folder: Path, style: str) -> None:
    """Check that FOLDER still holds exactly what its record says."""
    from keepstone.scan.vulndb.verify import verify_folder

    record = verify_folder(folder)
    _print(record, style)
    say(f"{folder} is as recorded", mark="ok")


def _print(record: DatabaseRecord, style: str) -> None:
    from keepstone.core.ports import SystemClock, rfc3339

    now = SystemClock().now_ms()
    if style == "json":
        emit_json({**record.to_dict(), "records": record.records, "age_s": _age(record, now)})
        return
    rows = [
        (
            part.ecosystem,
            str(part.records),
            "-" if part.newest is None else rfc3339(part.newest)[:10],
            rfc3339(part.checked)[:19] + "Z",
            part.source,
        )
        for part in record.parts
    ]
    click.echo(table(rows, ("ecosystem", "records", "newest", "checked", "source")))
    click.echo(f"{record.digest}, {_days(_age(record, now))} old")


def _age(record: DatabaseRecord, now: int) -> int:
    return max(0, now - record.checked) // 1000


def _days(seconds: int) -> str:
    return f"{seconds // 86_400} d {seconds % 86_400 // 3600} h"
