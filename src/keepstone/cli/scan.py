"""`keepstone scan`: judge files without running anything in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.lazy import CommandOrGroup
from keepstone.cli.options import format_option, site_at, workspace_option
from keepstone.cli.output import emit, status_of

if TYPE_CHECKING:
    from keepstone.scan.pickle.allowlist import Added
    from keepstone.scan.report import ScanReport

# What else can be scanned than files: the value is the file of this package.
OTHERS: dict[str, str] = {"deps": "scan_deps", "image": "scan_image", "secrets": "scan_secrets"}
_ALL = "*"


@click.command("scan", cls=CommandOrGroup, files=OTHERS)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--vault",
    is_flag=False,
    flag_value=_ALL,
    metavar="[NAME]",
    help="Scan what the workspace's vault holds: everything, or what is sealed as NAME.",
)
@workspace_option
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out files and folders under PATHS by name or path (`*`, `?`, `[...]`).",
)
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
    paths: tuple[Path, ...],
    vault: str | None,
    root: Path,
    exclude: tuple[str, ...],
    lists: tuple[Path, ...],
    list_keys: tuple[Path, ...],
    style: str,
) -> int:
    """Scan each file under PATHS: clean, flagged, or not evaluated with the reason.

    Exit status: 0 all clean; 1 something is flagged; 2 a path cannot be read; 3 something was
    not evaluated.
    """
    import json

    from keepstone.scan.report import to_json, to_sarif, to_text

    if not paths and vault is None:
        raise click.UsageError("Give the files or folders to scan, or --vault.")
    allowed = _read_lists(lists, list_keys)
    with progress(style) as observer:
        report = _scan(paths, vault, root, exclude, allowed, observer)
    if style == "text":
        click.echo(to_text(report))
    else:
        document = to_json(report) if style == "json" else to_sarif(report)
        emit(json.dumps(document, indent=2))
    return status_of(report.outcome)


def _scan(
    paths: tuple[Path, ...],
    vault: str | None,
    root: Path,
    exclude: tuple[str, ...],
    allowed: tuple[Added, ...],
    observer: Callable[[str], None] | None,
) -> ScanReport:
    from keepstone.scan.paths import scan_paths
    from keepstone.scan.report import ScanReport

    cores = len(os.sched_getaffinity(0))
    report = scan_paths(paths, observer, exclude=exclude, workers=cores, allowed=allowed)
    if vault is None:
        return report
    from keepstone.workspace.scanning import scan_vault

    held = scan_vault(site_at(root), None if vault == _ALL else vault, observer, allowed)
    return ScanReport((*report.files, *held.files), allowed)


@contextmanager
def progress(style: str) -> Iterator[Callable[[str], None] | None]:
    """A line on a terminal that tells which file is looked at; nothing elsewhere.

    It is drawn when a file begins and never by a thread: the scan may fork.
    """
    import sys

    from keepstone.cli.output import colours

    if style != "text" or not colours(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    count = 0
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def show(path: str) -> None:
            nonlocal count
            count += 1
            line = Text(f"{count} {path}", no_wrap=True, overflow="ellipsis")
            live.update(line, refresh=True)

        yield show


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
