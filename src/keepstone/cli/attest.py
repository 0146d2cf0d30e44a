"""`keepstone attest`: put what was found elsewhere on the record, as signed evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    KEY,
    format_option,
    read_option_file,
    signing_key,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say
from keepstone.cli.waivers import waiver_options

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference

_FILE = click.Path(path_type=Path, dir_okay=False)
_SCHEMA = "keepstone.attest-vulnerabilities/v1"
# They travel to the owner in one request.
_MAX_WAIVERS = 512 << 10

# Reading a large database of vulnerabilities takes the owner a while.
_TAKES_S = 900.0


@click.group("attest")
def command() -> None:
    """State what is known about a model, for policies that ask for it."""


@command.command("vulnerabilities")
@click.argument("model")
@click.option(
    "--report",
    type=_FILE,
    help="JSON of `keepstone scan deps`, Trivy or Grype; or a list of packages by Syft or in"
    " CycloneDX, which needs --osv to be judged.",
)
@click.option("--as", "key", type=KEY, help="With --report: the private key of who vouches for it.")
@click.option("--sbom", type=_FILE, help="With a report of Grype: the list that Grype was given.")
@click.option(
    "--scan",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Instead of a report: look at this folder or list of packages; the workspace's observer"
    " states what it saw. May be given again.",
)
@click.option("--osv", type=click.Path(path_type=Path), help="The database of OSV records.")
@click.option(
    "--max-age",
    type=DURATION,
    default="14d",
    show_default=True,
    help="How old the newest record of an ecosystem may be, with --osv.",
)
@waiver_options
@click.option("--lifetime", type=DURATION, help="How long it holds.  [default: as waivers say]")
@workspace_option
@format_option("json")
def vulnerabilities(
    model: str,
    report: Path | None,
    key: KeyReference | None,
    sbom: Path | None,
    paths: tuple[Path, ...],
    osv: Path | None,
    max_age: int,
    waiver_files: tuple[Path, ...],
    waiver_keys: tuple[Path, ...],
    lifetime: int | None,
    root: Path,
    style: str,
) -> int:
    """State which vulnerabilities are known in what goes with MODEL (a name, or its digest).

    Every vulnerability counts but those that a signed waiver covers. What saw no package, or had
    no database, is not evaluated and never clean. With --scan only waivers by signers count whose
    role in the policy has the right `state.waiver`.

    Exit status: 0 stated as clean; 1 stated as flagged; 3 stated as not evaluated.
    """
    from keepstone.identity.signing import load_public_key
    from keepstone.scan.vulnerabilities.outside import MAX_REPORT
    from keepstone.scan.vulnerabilities.reading import Given
    from keepstone.workspace.operations import perform
    from keepstone.workspace.vulnerabilities import Terms, attest_report

    if (report is None) == (not paths):
        raise click.UsageError("Give either --report or --scan.")
    if (report is None) == (key is not None):
        raise click.UsageError("--report is signed with --as KEY; --scan by the workspace itself.")
    if paths and (osv is None or sbom is not None):
        raise click.UsageError("--scan needs --osv, and takes no --sbom.")
    terms = Terms(
        b"\n".join(read_option_file(path, _MAX_WAIVERS) for path in waiver_files),
        tuple(map(load_public_key, waiver_keys)),
        lifetime,
    )
    site = site_at(root)
    if report is None or key is None:
        assert osv is not None
        # The owner may be another process, in another folder.
        arguments = {
            "model": model,
            "paths": [str(path.absolute()) for path in paths],
            "osv": str(osv.absolute()),
            "max_age_ms": max_age,
            "terms": terms.to_dict(),
        }
        return _tell(perform(site, "vulnerabilities.observe", arguments, wait_s=_TAKES_S), style)
    given = Given(
        read_option_file(report, MAX_REPORT),
        None if sbom is None else read_option_file(sbom, MAX_REPORT),
        osv,
        max_age,
    )
    done = attest_report(site, model, signing_key(key), given, terms)
    answer = perform(site, "statement.record", {"envelope": done.envelope})
    refused = [str(one) for one in done.refused]
    return _tell(answer | {"said": done.said.to_dict(), "refused": refused}, style)


def _tell(answer: dict[str, Any], style: str) -> int:
    from keepstone.errors import Exit

    said = answer["said"]
    for one in answer["refused"]:
        say(f"a waiver waives nothing, {one}", mark="warn")
    outcome = str(said["outcome"]).replace("_", " ")
    if style == "json":
        emit_json(
            {"schema": _SCHEMA, "entry": answer["entry"], "subject": answer["subject"]} | said
        )
    else:
        for finding in said["findings"]:
            click.echo(f"{finding['rule']}: {finding['message']}")
        if said["total"] > len(said["findings"]):
            click.echo(f"and {said['total'] - len(said['findings'])} more")
    counts = f"{said['packages']} packages, {said['total']} findings, {said['waived']} waived"
    marks = {"clean": "ok", "flagged": "fail"}
    say(
        f"{answer['subject']}: {outcome} ({counts}), by {said['scanner']['name']}"
        f" {said['scanner']['version']}, {said['basis']}, as entry {answer['entry']}",
        mark=marks.get(outcome, "warn"),
    )
    return int({"clean": Exit.OK, "flagged": Exit.NO}.get(outcome, Exit.UNDECIDED))
