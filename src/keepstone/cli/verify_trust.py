"""`keepstone verify --trust`: ask the policy in a trust bundle whether a model may be loaded."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import outside_folder
from keepstone.cli.output import emit_json, say


def verify_trust(
    path: Path, trust: Path, trust_key: str | None, name: str | None, style: str
) -> int:
    """Hash the model whole, ask, and print the reasons; the exit status is the answer."""
    from keepstone.core.digest import artifact_digest
    from keepstone.core.ports import rfc3339
    from keepstone.errors import Exit
    from keepstone.evidence.modelfiles import hash_model
    from keepstone.policy.explain import explain_model
    from keepstone.trust.opening import open_bundle

    trusted = open_bundle(trust, outside=outside_folder(), trust_key=trust_key)
    digest = artifact_digest(hash_model(path, lambda _: False))
    verdict = trusted.verdict(trusted.subject_of(digest, name))
    explanation = explain_model(verdict)
    bundle = trusted.bundle
    if style == "json":
        about = {"origin": bundle.origin, "key_id": bundle.key_id, "bundle": str(bundle.digest)}
        emit_json(explanation.to_dict() | {"schema": "keepstone.verify-trust/v1", "trust": about})
    else:
        click.echo(explanation.to_text())
        mark = "ok" if verdict.allowed else "fail"
        until = rfc3339(bundle.expires)
        say(f"by {bundle.origin}, whose bundle is good until {until}", mark=mark)
    if verdict.errors:
        return int(Exit.UNDECIDED)
    return int(Exit.OK if verdict.allowed else Exit.NO)
