"""`keepstone scan image`: judge container images without running or unpacking them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from keepstone.cli.options import format_option
from keepstone.cli.output import emit, say, status_of
from keepstone.cli.scan_deps import fail_on_option, max_age_option, severity_limit
from keepstone.cli.waivers import read_waiver_options, waiver_options


@click.command("image")
@click.argument("reference", metavar="REF")
@click.option(
    "--osv",
    type=click.Path(path_type=Path),
    help="The database that packages are compared with: see `keepstone scan deps`.",
)
@max_age_option
@fail_on_option
@waiver_options
@click.option(
    "--no-vulnerabilities",
    is_flag=True,
    help="List the packages and do not ask whether they are vulnerable.",
)
@click.option("--no-base", is_flag=True, help="Do not ask what the image was built on.")
@click.option(
    "--platform",
    default="",
    metavar="OS/ARCH[/VARIANT]",
    help="Judge the images for this platform alone. Without it every one is judged.",
)
@format_option("json", "sarif")
def command(
    reference: str,
    osv: Path | None,
    max_age: int,
    fail_on: str,
    waiver_files: tuple[Path, ...],
    waiver_keys: tuple[Path, ...],
    no_vulnerabilities: bool,
    no_base: bool,
    platform: str,
    style: str,
) -> int:
    """Judge the images that REF names.

    REF is the folder of an OCI layout, an archive of one, an archive that `docker save` wrote, one
    image of these (PATH:NAME), or HOST/REPOSITORY[:TAG][@DIGEST] in a registry, which is asked over
    HTTPS unless it is this machine itself. Every file in every layer is looked at for secrets and
    malicious models, files that a later layer deletes as well.

    Exit status: 0 all clean; 1 something is flagged; 2 there is no image to read; 3 something was
    not evaluated. Without --osv nobody knows of vulnerabilities, which is 3 as well, unless
    --no-vulnerabilities says that they are not asked for.
    """
    import json

    from keepstone.core.ports import SystemClock
    from keepstone.scan.images.judge import Asked, scan_images
    from keepstone.scan.images.open import open_images
    from keepstone.scan.images.packages import PackageCheck
    from keepstone.scan.images.report import to_json, to_sarif, to_text
    from keepstone.scan.images.select import Choice
    from keepstone.scan.vulnerabilities.waiving import refused_text, waived_by

    now, limit = SystemClock().now_ms(), severity_limit(fail_on)
    waivers = read_waiver_options(waiver_files, waiver_keys)
    packages = PackageCheck(osv, now, not no_vulnerabilities, max_age, limit, waived_by(waivers))
    with open_images(reference, os.environ) as (store, name), _progress(style) as observer:
        choice = Choice(platform, name)
        asked = Asked(packages, choice, base=not no_base, observer=observer)
        report = scan_images(store, reference, asked)
    for refused in refused_text(waivers):
        say(refused.strip(), mark="warn")
    if style == "text":
        click.echo(to_text(report))
    else:
        emit(json.dumps(to_json(report) if style == "json" else to_sarif(report), indent=2))
    return status_of(report.outcome)


@contextmanager
def _progress(style: str) -> Iterator[Callable[[str], None]]:
    from keepstone.cli.scan import progress

    with progress(style) as show:
        yield show or (lambda _: None)
