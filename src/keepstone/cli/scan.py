"""`keepstone scan`: judge files without running anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import format_option

if TYPE_CHECKING:
    from keepstone.scan.pickle.allowlist import Added


@click.command("scan")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--allow",
    "lists",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A signed list of names that pickles may use as well (see `keepstone allow`).",
)
@click.option(
    "--allow-key",
    "list_keys",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Public key (PEM) of somebody whose lists count.",
)
@format_option("json", "sarif")
def command(
    paths: tuple[Path, ...], lists: tuple[Path, ...], list_keys: tuple[Path, ...], style: str
) -> int:
    """Scan each file under PATHS: clean, flagged, or not evaluated with the reason.

    Exit status: 0 all clean; 1 something is flagged; 2 a path cannot be read; 3 something was
    not evaluated.
    """
    import json

    from keepstone.core.finding import Outcome
    from keepstone.errors import Exit
    from keepstone.scan.report import to_json, to_sarif, to_text
    from keepstone.scan.scanner import scan_paths

    report = scan_paths(paths, allowed=_read_lists(lists, list_keys))
    if style == "text":
        click.echo(to_text(report))
    else:
        document = to_json(report) if style == "json" else to_sarif(report)
        click.echo(json.dumps(document, indent=2))
    statuses = {
        Outcome.CLEAN: Exit.OK,
        Outcome.FLAGGED: Exit.NO,
        Outcome.NOT_EVALUATED: Exit.UNDECIDED,
    }
    return int(statuses[report.outcome])


def _read_lists(lists: tuple[Path, ...], list_keys: tuple[Path, ...]) -> tuple[Added, ...]:
    if not lists:
        return ()
    from keepstone.core.ports import SystemClock
    from keepstone.errors import InputError
    from keepstone.identity.signing import load_public_key
    from keepstone.scan.pickle.extension import read_extension

    keys = {key.key_id: key for key in map(load_public_key, list_keys)}
    now, found = SystemClock().now_ms(), []
    for path in lists:
        try:
            data = path.read_bytes()
        except OSError as error:
            cause = f"Cannot read {path}: {error.strerror}."
            raise InputError("allowlist.missing", cause) from error
        found.append(read_extension(data, keys, now))
    return tuple(found)
