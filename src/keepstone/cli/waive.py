"""`keepstone waive`: sign that a known vulnerability is accepted for a while."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.moment import MOMENT
from keepstone.cli.options import signer_option, signing_key
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference


@click.command("waive")
@click.argument("package", metavar="PACKAGE[@VERSION]")
@click.option(
    "--advisory",
    "advisories",
    multiple=True,
    required=True,
    metavar="ID",
    help="What is accepted: CVE-..., GHSA-..., PYSEC-...; may be given again. Never all.",
)
@click.option("--reason", required=True, help="Why; it is signed and shown.")
@click.option(
    "--expires",
    required=True,
    type=MOMENT,
    help="For how long (30d) or until when (2027-01-31, UTC): at most 366 days.",
)
@signer_option
@click.option(
    "--ecosystem",
    default="PyPI",
    show_default=True,
    help="OSV's name of where the package is from, as findings show it.",
)
@click.option(
    "--into",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of waivers, one a line; it is made where there is none.",
)
def command(
    package: str,
    advisories: tuple[str, ...],
    reason: str,
    expires: int,
    key: KeyReference,
    ecosystem: str,
    target: Path,
) -> None:
    """Waive advisories in PACKAGE, for `keepstone scan deps --waivers FILE --waiver-key PUB`.

    What is waived is still shown, with who waived it, why, and until when.
    """
    from keepstone.core.ports import SystemClock, rfc3339
    from keepstone.files import append_line
    from keepstone.scan.vulnerabilities.waiver import Waiver, sign_waiver

    # An npm scope begins with `@`: only one further on ends the name.
    name, at, version = package.rpartition("@")
    if not name:
        name, at, version = package, "", ""
    waiver = Waiver(
        ecosystem=ecosystem,
        package=name,
        version=version if at else None,
        advisories=advisories,
        reason=reason,
        created=SystemClock().now_ms(),
        expires=expires,
    )
    opened = signing_key(key)
    append_line(target, sign_waiver(waiver, opened).to_json())
    say(
        f"waived {', '.join(advisories)} in {package} until {rfc3339(expires)}, key"
        f" {opened.key_id[:16]}: {target}",
        mark="ok",
    )
