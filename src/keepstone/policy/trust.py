"""Whose word counts for what: the policy's signers, and the workspace's own two keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from keepstone.errors import InputError
from keepstone.evidence.verified import Signer
from keepstone.identity.signing import VerifyingKey
from keepstone.policy.document import GATE, OBSERVER, RIGHTS, Policy

_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Trust:
    """Signers, their roles and their rights, all by key id. `signers` and `rights` are what
    `EvidenceBase.build` takes.

    `names` and `roles` know the certified signers too, by their ids; `signers` does not, for
    they sign no statements.
    """

    policy: Policy
    signers: Mapping[str, Signer]
    roles: Mapping[str, frozenset[str]]
    rights: Mapping[str, frozenset[str]]
    names: Mapping[str, str]

    @classmethod
    def of(cls, policy: Policy, *, observer: VerifyingKey, gate: VerifyingKey) -> Trust:
        """Join the policy's signers and the workspace's keys.

        Raises InputError `policy.invalid` when the policy lists a key of the workspace: whoever
        can run the endpoint could then approve in somebody's name.
        """
        held = {signer.signer_id: signer.roles for signer in policy.signers}
        names = {signer.signer_id: signer.name for signer in policy.signers}
        keys = {one.key.key_id: one.key for one in policy.signers if one.key is not None}
        if observer.key_id in held or gate.key_id in held or observer == gate:
            raise InputError(
                "policy.invalid",
                "A key of the workspace itself is listed as a signer, or serves two roles.",
                "Give each signer a key of its own, kept outside the workspace.",
            )
        held |= {observer.key_id: frozenset({OBSERVER}), gate.key_id: frozenset({GATE})}
        names |= {observer.key_id: OBSERVER, gate.key_id: GATE}
        keys |= {observer.key_id: observer, gate.key_id: gate}
        rights = {
            key_id: frozenset().union(*(policy.roles.get(role, _NOBODY) for role in held[key_id]))
            & RIGHTS
            for key_id in keys
        }
        # What only the workspace itself does, no file can grant or withhold.
        rights[observer.key_id] |= {"state.sealing", "state.registered"}
        rights[gate.key_id] = frozenset({"state.admission"})
        signers = {
            key_id: Signer(names[key_id], "+".join(sorted(held[key_id])), key)
            for key_id, key in keys.items()
        }
        return cls(
            policy,
            MappingProxyType(signers),
            MappingProxyType(held),
            MappingProxyType(rights),
            MappingProxyType(names),
        )

    def has_role(self, key_id: str, role: str) -> bool:
        return role in self.roles.get(key_id, _NOBODY)

    def may_waive(self, key_id: str) -> bool:
        """Whether the waivers of this key count in what the observer says."""
        return "state.waiver" in self.rights.get(key_id, _NOBODY)

    def person(self, key_id: str) -> str:
        """The name behind a known id: two keys of one name are one person."""
        return self.names[key_id]
