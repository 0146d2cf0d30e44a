"""`keepstone doctor`: what is well, what is not, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import format_option, site_at, workspace_option
from keepstone.cli.output import emit_json, say


@click.command("doctor")
@workspace_option
@format_option("json")
def command(root: Path, style: str) -> int:
    """Check keys, clock, ledger, policy, certificates, store, disk and extras.

    Each line is ok, warn or fail, with what mends it. Exit status 1 when something fails.
    """
    from keepstone.errors import Exit
    from keepstone.workspace.doctor import examine

    findings = examine(site_at(root))
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.doctor/v1",
                "checks": [
                    {"check": f.check, "state": f.state, "message": f.message, "mend": f.mend}
                    for f in findings
                ],
            }
        )
    else:
        for finding in findings:
            say(f"{finding.check:<12} {finding.message}", mark=finding.state)
            if finding.mend:
                say(f"{'':<17} mend: {finding.mend}")
    return int(Exit.NO if any(f.state == "fail" for f in findings) else Exit.OK)
