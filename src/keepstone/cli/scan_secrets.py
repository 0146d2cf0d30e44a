"""`keepstone scan secrets`: tokens, keys and passwords that lie in files, shown by place alone."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import format_option, read_option_file
from keepstone.cli.output import emit, say, status_of


@click.command("secrets")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out files and folders under PATHS by name or path (`*`, `?`, `[...]`).",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of known secrets (by fingerprint): they are shown as known, and not flagged.",
)
@click.option(
    "--write-baseline",
    "written",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write such a file, which names every secret found now. It holds no part of them.",
)
@format_option("json", "sarif")
def command(
    paths: tuple[Path, ...],
    exclude: tuple[str, ...],
    baseline: Path | None,
    written: Path | None,
    style: str,
) -> int:
    """Look for secrets in each file under PATHS, and inside of archives, notebooks and pickles.

    No secret is printed: a finding shows its kind, its place, how it begins and how long it is. A
    line with the comment `keepstone: allow-secret REASON` is reported as allowed. History (`.git`)
    is not looked into.

    Exit status: 0 none; 1 a secret that is neither allowed nor known; 2 a path cannot be read; 3
    something was not evaluated.
    """
    import json

    from keepstone.cli.scan import progress
    from keepstone.files import write_atomic
    from keepstone.scan.secrets.baseline import LIMIT, parse_baseline, write_baseline
    from keepstone.scan.secrets.paths import scan_secrets
    from keepstone.scan.secrets.report import to_json, to_sarif, to_text

    known = () if baseline is None else parse_baseline(read_option_file(baseline, LIMIT))
    with progress(style) as observer:
        report = scan_secrets(paths, observer, exclude=exclude, baseline=known)
    if style == "text":
        click.echo(to_text(report))
    else:
        emit(json.dumps(to_json(report) if style == "json" else to_sarif(report), indent=2))
    if written is not None:
        write_atomic(written, write_baseline(report.found))
        say(f"{written} names what was found; read it before you keep it.", mark="ok")
    return status_of(report.outcome)
