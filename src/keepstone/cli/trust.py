"""`keepstone trust`: let a machine without a workspace decide as a workspace does, for a while."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    format_option,
    outside_folder,
    site_at,
    trust_key_option,
    workspace_option,
)
from keepstone.cli.output import emit_json, say, table

if TYPE_CHECKING:
    from keepstone.policy.bundle import TrustBundle


@click.group("trust")
def command() -> None:
    """Export and read trust bundles: keys, policy, revocations and evidence, signed."""


@command.command("export")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the bundle goes.",
)
@click.option(
    "--expires",
    "lifetime",
    type=DURATION,
    default="24h",
    show_default=True,
    help="How long it may be used; a revocation reaches the other machine no later.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Only the evidence about this model (a name or a digest), and every revocation; may be"
    " given again.",
)
@workspace_option
def export(out: Path, lifetime: int, models: tuple[str, ...], root: Path) -> None:
    """Write what another machine needs to verify and load models, signed by the gate's key.

    The export is recorded. Whoever receives the bundle needs the id of that key from you, once:
    it is printed, and `keepstone signers list` shows it.
    """
    from keepstone.files import write_atomic
    from keepstone.policy.bundle import claimed_origin
    from keepstone.workspace.operations import perform
    from keepstone.workspace.reading import public_key

    site = site_at(root)
    asked = {"models": list(models), "lifetime_ms": lifetime}
    answer = perform(site, "trust.export", asked)
    data = str(answer["bundle"]).encode("ascii")
    write_atomic(out, data, mode=0o644)
    click.echo(public_key(site.layout, "gate").key_id)
    say(f"{out}: {answer['statements']} statement(s) of {claimed_origin(data)}", mark="ok")


@command.command("show")
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@trust_key_option
@format_option("json")
def show(bundle: Path, trust_key: str | None, style: str) -> int:
    """Say what the trust bundle BUNDLE holds, if it verifies. Nothing is remembered of it.

    Exit status: 0 it may be used now; 1 it may not; 3 no key is known to verify it with.
    """
    from keepstone.errors import InputError
    from keepstone.trust.opening import open_bundle

    try:
        trusted = open_bundle(bundle, outside=outside_folder(), trust_key=trust_key, remember=False)
    except InputError as error:
        if error.code != "trust.no_key":
            raise
        return _show_claims(bundle, style)
    document = _document(trusted.bundle)
    if style == "json":
        emit_json(document)
        return 0
    for name in ("origin", "issued", "expires", "key_id", "policy", "profile"):
        click.echo(f"{name:<10} {document[name]}")
    click.echo(f"{'ledger':<10} {document['ledger']['size']} entries")
    click.echo(f"{'statements':<10} {document['statements']}")
    for line in document["revocations"]:
        effect = "revoked" if line["stands"] else "no effect"
        click.echo(f"{effect:<10} {line['kind']} {line['digest']}: {line['reason']}")
    rows = [(one["name"], one["key_id"], ", ".join(one["rights"])) for one in document["signers"]]
    click.echo(table(rows, ("signer", "key", "rights")))
    return 0


def _show_claims(bundle: Path, style: str) -> int:
    """What an unverified bundle says of itself: where it is from, and nothing to act on."""
    from keepstone.errors import Exit
    from keepstone.policy.bundle import claimed_origin
    from keepstone.trust.opening import read_bundle

    origin = claimed_origin(read_bundle(bundle))
    if style == "json":
        emit_json({"schema": "keepstone.trust-show/v1", "verified": False, "origin": origin})
    say(f"{bundle} says it is of {origin}; give --trust-key to verify it", mark="warn")
    return int(Exit.UNDECIDED)


def _document(bundle: TrustBundle) -> dict[str, Any]:
    from keepstone.core.ports import rfc3339
    from keepstone.evidence.predicates import Revocation

    statements = bundle.evidence.statements
    ignored = {one.entry_index for one in bundle.evidence.ignored_revocations}
    said = [(item, item.predicate) for item in statements]
    return {
        "schema": "keepstone.trust-show/v1",
        "verified": True,
        "origin": bundle.origin,
        "issued": rfc3339(bundle.issued),
        "expires": rfc3339(bundle.expires),
        "key_id": bundle.key_id,
        "policy": str(bundle.trust.policy.digest),
        "profile": bundle.trust.policy.profile,
        "ledger": {"size": bundle.checkpoint.size, "root": bundle.checkpoint.root.hex()},
        "statements": len(statements),
        "revocations": [
            {
                "kind": predicate.target.kind,
                "digest": str(predicate.target.digest),
                "reason": predicate.reason,
                "stands": item.entry_index not in ignored,
            }
            for item, predicate in said
            if isinstance(predicate, Revocation)
        ],
        "signers": [
            {
                "name": signer.name,
                "key_id": key_id,
                "roles": sorted(bundle.trust.roles[key_id]),
                "rights": sorted(bundle.trust.rights[key_id]),
            }
            for key_id, signer in bundle.trust.signers.items()
        ],
    }
