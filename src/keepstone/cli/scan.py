"""`keepstone scan`: judge files without running anything in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import format_option, site_at, workspace_option

if TYPE_CHECKING:
    from keepstone.scan.report import ScanReport

_ALL = "*"


@click.command("scan")
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
@format_option("json", "sarif")
def command(
    paths: tuple[Path, ...], vault: str | None, root: Path, exclude: tuple[str, ...], style: str
) -> int:
    """Scan each file under PATHS: clean, flagged, or not evaluated with the reason.

    Exit status: 0 all clean; 1 something is flagged; 2 a path cannot be read; 3 something was
    not evaluated.
    """
    import json

    from keepstone.core.finding import Outcome
    from keepstone.errors import Exit
    from keepstone.scan.report import to_json, to_sarif, to_text

    if not paths and vault is None:
        raise click.UsageError("Give the files or folders to scan, or --vault.")
    with _progress(style) as observer:
        report = _scan(paths, vault, root, exclude, observer)
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


def _scan(
    paths: tuple[Path, ...],
    vault: str | None,
    root: Path,
    exclude: tuple[str, ...],
    observer: Callable[[str], None] | None,
) -> ScanReport:
    from keepstone.scan.paths import scan_paths
    from keepstone.scan.report import ScanReport

    cores = len(os.sched_getaffinity(0))
    report = scan_paths(paths, observer, exclude=exclude, workers=cores)
    if vault is None:
        return report
    from keepstone.workspace.scanning import scan_vault

    held = scan_vault(site_at(root), None if vault == _ALL else vault, observer)
    return ScanReport((*report.files, *held.files))


@contextmanager
def _progress(style: str) -> Iterator[Callable[[str], None] | None]:
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
