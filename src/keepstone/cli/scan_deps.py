"""`keepstone scan deps`: hold the packages of a system against a folder of OSV records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import format_option
from keepstone.cli.output import emit, status_of
from keepstone.cli.waivers import read_waiver_options, waiver_options

if TYPE_CHECKING:
    from keepstone.core.finding import Severity
    from keepstone.scan.packages.inventory import Inventory
    from keepstone.scan.packages.judging import DepsReport
    from keepstone.scan.vulnerabilities.waiver import Waivers

_RUNNING = "*"
_LIMITS = ("any", "low", "medium", "high", "critical")


max_age_option = click.option(
    "--max-age",
    type=DURATION,
    default="14d",
    show_default=True,
    help="How old the newest record of an ecosystem may be; silence of an older database says"
    " nothing.",
)
fail_on_option = click.option(
    "--fail-on",
    type=click.Choice(_LIMITS),
    default="any",
    show_default=True,
    help="The severity from which a vulnerability makes the verdict; others are only told. One"
    " of unknown severity always counts.",
)


def severity_limit(fail_on: str) -> Severity | None:
    """What `--fail-on` says: None for any severity."""
    from keepstone.core.finding import Severity

    return None if fail_on == "any" else Severity(fail_on)


@click.command("deps")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--osv",
    "osv",
    type=click.Path(path_type=Path),
    help="The database: a folder of OSV records, or of zips of them, or one zip.",
)
@click.option(
    "--environment",
    is_flag=False,
    flag_value=_RUNNING,
    metavar="[PREFIX]",
    help="What is installed in the environment at PREFIX (or a site-packages), without PREFIX in"
    " the Python that runs this.",
)
@max_age_option
@fail_on_option
@waiver_options
@format_option("json", "sarif")
def command(
    paths: tuple[Path, ...],
    osv: Path | None,
    environment: str | None,
    max_age: int,
    fail_on: str,
    waiver_files: tuple[Path, ...],
    waiver_keys: tuple[Path, ...],
    style: str,
) -> int:
    """Hold every package that PATHS name against a database of vulnerabilities.

    PATHS are folders, root file systems or single lock files. What is not known is not evaluated,
    by name: without a database that is everything.

    Exit status: 0 no package is known to be vulnerable; 1 one is; 2 a path cannot be read; 3
    something was not evaluated.
    """
    import json

    from keepstone.scan.packages.report import deps_json, deps_sarif, deps_text
    from keepstone.scan.vulnerabilities.waiving import refused_text, waivers_json

    if not paths and environment is None:
        raise click.UsageError("Give the files or folders to look at, or --environment.")
    waivers = read_waiver_options(waiver_files, waiver_keys)
    report = _judge(_look(paths, environment), osv, max_age, fail_on, waivers)
    if style == "text":
        click.echo("\n".join([deps_text(report), *refused_text(waivers)]))
    else:
        document = deps_json(report) if style == "json" else deps_sarif(report)
        place = document if style == "json" else document["runs"][0]["properties"]
        place["waivers"] = waivers_json(report, waivers)
        emit(json.dumps(document, indent=2))
    return status_of(report.outcome)


def _look(paths: tuple[Path, ...], environment: str | None) -> Inventory:
    from keepstone.scan.packages.inventory import Inventory
    from keepstone.scan.packages.places import look, look_at_running

    found = Inventory()
    for path in paths:
        found += look(path)
    if environment == _RUNNING:
        found += look_at_running()
    elif environment is not None:
        found += look(Path(environment), locks=False)
    return found


def _judge(
    found: Inventory, osv: Path | None, max_age: int, fail_on: str, waivers: Waivers
) -> DepsReport:
    from keepstone.core.ports import SystemClock
    from keepstone.scan.packages.judging import judge_packages
    from keepstone.scan.packages.osv.database import read_database
    from keepstone.scan.vulnerabilities.waiving import waived_by

    now = SystemClock().now_ms()
    database = None if osv is None else read_database(osv, found.packages, now)
    limit = severity_limit(fail_on)
    return judge_packages(
        found, database, now, max_age_ms=max_age, fail_on=limit, waived=waived_by(waivers)
    )
