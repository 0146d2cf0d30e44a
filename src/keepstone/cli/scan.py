"""`keepstone scan`: judge files without running anything in them."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import format_option


@click.command("scan")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@format_option("json", "sarif")
def command(paths: tuple[Path, ...], style: str) -> int:
    """Scan each file under PATHS: clean, flagged, or not evaluated with the reason.

    Exit status: 0 all clean; 1 something is flagged; 2 a path cannot be read; 3 something was
    not evaluated.
    """
    import json

    from keepstone.core.finding import Outcome
    from keepstone.errors import Exit
    from keepstone.scan.report import to_json, to_sarif, to_text
    from keepstone.scan.scanner import scan_paths

    report = scan_paths(paths)
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
