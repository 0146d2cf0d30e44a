"""What may be asked of a workspace's owner, by name: one road, whoever holds the lock.

`perform` does it here where nobody owns the workspace, and asks the owner where somebody does.
"""

from __future__ import annotations

import os
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from keepstone.core.ports import rfc3339
from keepstone.errors import InputError, OperationalError
from keepstone.evidence.dsse import Envelope
from keepstone.identity.apikeys import ApiKeyRecord
from keepstone.identity.certificates import TrustRoots
from keepstone.identity.principal import Grant, check_principal_id, grants_to_list, parse_grants
from keepstone.identity.signing import VerifyingKey, parse_public_pem
from keepstone.identity.tokens import issue_token
from keepstone.ledger import Kind, make_entry
from keepstone.ledger.checkpoint import parse_checkpoint
from keepstone.policy.certified import ByAuthority, ByIssuer, CertifiedSigner
from keepstone.policy.parse import add_signer
from keepstone.workspace.control import ask
from keepstone.workspace.fingerprint_secrets import FingerprintSecrets
from keepstone.workspace.opened import Workspace, open_workspace
from keepstone.workspace.reference import LIBRARY
from keepstone.workspace.site import Site
from keepstone.workspace.trusting import export_bundle

Arguments = Mapping[str, Any]
_PATIENCE_S = 15.0
_REGISTRY = "registry."


def perform(
    site: Site, operation: str, arguments: dict[str, Any], *, wait_s: float = 60.0
) -> dict[str, Any]:
    """Perform `operation` as the owner, or have the owner perform it within `wait_s`.

    Raises what the operation raises; OperationalError `workspace.owned` when the owner answers
    nobody for some seconds.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with open_workspace(site) as workspace:
                return execute(workspace, operation, arguments)
        except OperationalError as error:
            if error.code != "workspace.owned":
                raise
            owned = error
        try:
            return ask(site.layout, operation, arguments, wait_s=wait_s)
        except OperationalError as error:
            # Between the two the owner may have come or gone.
            if error.code != "control.no_owner":
                raise
        if time.monotonic() > deadline:
            raise owned
        time.sleep(0.05)


def execute(
    workspace: Workspace, operation: str, arguments: Arguments, uid: int | None = None
) -> dict[str, Any]:
    """Perform one operation for the user `uid`; None: for this process's own.

    Raises InputError `control.unknown_operation`, `control.malformed`.
    """
    try:
        if operation.startswith(_REGISTRY):
            # Imported here: it brings the scanners and loaders along.
            from keepstone.workspace.registry.operations import execute_registry

            asking = os.geteuid() if uid is None else uid
            answer = execute_registry(workspace, operation, arguments, asking)
            if answer is not None:
                return answer
        elif operation in OPERATIONS:
            return OPERATIONS[operation](workspace, arguments)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError("control.malformed", f"{operation} lacks an argument: {error}.") from error
    raise InputError("control.unknown_operation", f"There is no operation {operation[:64]!r}.")


def _record(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    entry, found = workspace.take(Envelope.from_dict(arguments["envelope"]))
    return {"entry": str(entry), "kind": found.kind, "subject": str(found.subject)}


def _grants(workspace: Workspace, arguments: Arguments) -> frozenset[Grant]:
    roles = [str(role) for role in arguments["roles"]]
    unknown = [role for role in roles if role not in workspace.trust.policy.roles]
    if unknown or not roles:
        raise InputError(
            "role.unknown",
            f"The policy defines no role {(unknown or ['(none)'])[0]!r}.",
            f"Known roles: {', '.join(sorted(workspace.trust.policy.roles))}.",
        )
    plain = {"models": list(arguments["models"])}
    # A condition that is not given is no condition; one that is empty is refused.
    plain |= {name: arguments[name] for name in ("versions", "where") if name in arguments}
    return parse_grants([{"role": role, **plain} for role in roles])


def _key_answer(record: ApiKeyRecord, secret: str) -> dict[str, Any]:
    return {
        "key": secret,
        "key_id": record.key_id,
        "principal": record.principal,
        "grants": grants_to_list(record.grants),
        "expires": rfc3339(record.expires),
    }


def _create_key(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    secret, record = workspace.ring.mint(
        check_principal_id(arguments["principal"]),
        _grants(workspace, arguments),
        now=workspace.clock.now_ms(),
        lifetime_ms=int(arguments["lifetime_ms"]),
    )
    workspace.save_ring()
    own = workspace.trust.policy.limits.of_roles({grant.role for grant in record.grants})
    workspace.record_event(
        "key.created",
        {
            "key": record.key_id,
            "principal": record.principal,
            "grants": grants_to_list(record.grants),
            "expires": record.expires,
        }
        # Whoever may ask more than all others can be told from the ledger.
        | ({} if own is None else {"per_second": own.per_second, "burst": own.burst}),
    )
    return _key_answer(record, secret)


def _list_keys(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    now = workspace.clock.now_ms()
    keys = [
        {
            "key_id": record.key_id,
            "principal": record.principal,
            "grants": grants_to_list(record.grants),
            "state": record.state(now),
            "created": rfc3339(record.created),
            "expires": rfc3339(record.expires),
        }
        for record in workspace.ring.records
    ]
    return {"keys": keys}


def _rotate_key(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    secret, record = workspace.ring.rotate(
        arguments["key_id"],
        now=workspace.clock.now_ms(),
        overlap_ms=int(arguments["overlap_ms"]),
    )
    workspace.save_ring()
    workspace.record_event("key.rotated", {"key": record.key_id})
    return _key_answer(record, secret)


def _revoke_key(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    # In force first, then on the disk, then in the record; a full disk does not delay it.
    record = workspace.ring.revoke(arguments["key_id"], now=workspace.clock.now_ms())

    def write() -> None:
        workspace.save_ring()
        workspace.record_event("key.revoked", {"key": record.key_id})

    workspace.urgently(write)
    return {"key_id": record.key_id}


def _issue_token(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    now = workspace.clock.now_ms()
    lifetime = int(arguments["lifetime_ms"])
    longest = workspace.trust.policy.token_max_lifetime_ms
    if lifetime > longest:
        raise InputError(
            "token.lifetime",
            f"The policy lets a token live at most {longest // 1000} seconds.",
            "Ask for a shorter life.",
        )
    token = issue_token(
        workspace.keys.token,
        issuer=workspace.identity.origin,
        audience=workspace.identity.origin,
        subject=arguments["principal"],
        grants=_grants(workspace, arguments),
        lifetime_ms=lifetime,
        now=now,
    )
    workspace.record_event(
        "token.issued", {"principal": arguments["principal"], "expires": now + lifetime}
    )
    return {"token": token, "expires": rfc3339(now + lifetime)}


def _add_signer(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    who = _who_signs(arguments)
    roles = tuple(str(role) for role in arguments["roles"])
    name = str(arguments["name"])
    workspace.edit_policy(lambda before: add_signer(before, name, roles, who))
    signer_id = who.key_id if isinstance(who, VerifyingKey) else who.signer_id
    workspace.record_event("signer.added", {"name": name, "roles": list(roles), "key": signer_id})
    return {"key_id": signer_id}


def _who_signs(arguments: Arguments) -> VerifyingKey | CertifiedSigner:
    if "public_key" in arguments:
        return parse_public_pem(str(arguments["public_key"]).encode())
    identity = str(arguments["identity"])
    if "roots" in arguments:
        return ByAuthority(identity, TrustRoots.parse(str(arguments["roots"]).encode()))
    return ByIssuer(identity, str(arguments["issuer"]), str(arguments["trusted_root"]).encode())


def _reload_policy(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    workspace.reload_policy()
    digest = str(workspace.trust.policy.digest)
    workspace.record_event("policy.loaded", {"policy": digest})
    return {"policy": digest}


def _checkpoint(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    workspace.keep_outside()
    note = workspace.ledger.checkpoint()
    return {"note": note, "size": parse_checkpoint(note).size}


def _admit_model(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    # Imported here: it brings the loaders along, which no other operation needs.
    from keepstone.workspace.admit import admit_again

    endpoint = str(arguments.get("endpoint", LIBRARY))
    return admit_again(workspace, str(arguments["model"]), endpoint)


def _forget_period(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    workspace.periods.destroy(arguments["period"], workspace.clock.now_ms())
    workspace.record_event("audit.period_destroyed", {"period": arguments["period"]})
    return {"period": arguments["period"]}


def _commit_fingerprint(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    # Imported here: it brings the lab along, which no other operation needs.
    from keepstone.workspace.fingerprint_record import COMMITTED, read_commitment

    fields = dict(arguments["fields"])
    said = {"event": COMMITTED, **fields}
    # What the ledger takes, every later reader must understand.
    read_commitment(0, make_entry(Kind.EVENT, workspace.clock.now_ms(), said))
    # The secret first: a commitment that nobody can open is worth nothing.
    FingerprintSecrets(workspace.layout.fingerprint_secrets).add(
        str(fields["id"]), b64decode(arguments["seed"], validate=True), workspace.kek
    )
    return {"entry": str(workspace.record_event(COMMITTED, fields))}


def _record_fingerprint(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    event = str(arguments["event"])
    if event not in ("fingerprint.checked", "fingerprint.opened"):
        raise InputError("control.malformed", f"No fingerprint has an event {event[:64]!r}.")
    return {"entry": str(workspace.record_event(event, dict(arguments["fields"])))}


def _export_trust(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    models = tuple(str(model) for model in arguments["models"])
    data, statements = export_bundle(workspace, models, int(arguments["lifetime_ms"]))
    return {"bundle": data.decode("ascii"), "statements": statements}


def _observe_packages(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    # Imported here: it brings the readers of packages along, which no other operation needs.
    from keepstone.workspace.vulnerabilities import observe_packages

    return observe_packages(workspace, arguments)


def _register_version(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    # Imported here, as for `model.admit`.
    from keepstone.workspace.registering import register_version

    return register_version(workspace, arguments)


def _register_alias(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    from keepstone.workspace.registering import register_alias

    return register_alias(workspace, arguments)


def _record_calls(workspace: Workspace, arguments: Arguments) -> dict[str, Any]:
    """Calls of a registry that Keepstone guards, as its guard saw them."""
    calls = [dict(call) for call in arguments["calls"]]
    workspace.record_events(("registry.call", call) for call in calls)
    return {"recorded": len(calls)}


OPERATIONS: Mapping[str, Callable[[Workspace, Arguments], dict[str, Any]]] = MappingProxyType(
    {
        "statement.record": _record,
        "keys.create": _create_key,
        "keys.list": _list_keys,
        "keys.rotate": _rotate_key,
        "keys.revoke": _revoke_key,
        "token.issue": _issue_token,
        "signers.add": _add_signer,
        "policy.reload": _reload_policy,
        "model.admit": _admit_model,
        "vulnerabilities.observe": _observe_packages,
        "ledger.checkpoint": _checkpoint,
        "ledger.forget": _forget_period,
        "fingerprint.commit": _commit_fingerprint,
        "fingerprint.record": _record_fingerprint,
        "trust.export": _export_trust,
        "registered.version": _register_version,
        "registered.alias": _register_alias,
        "registered.calls": _record_calls,
    }
)
