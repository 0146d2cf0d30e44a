"""The policy file as a value: what stands here is in force, and nothing else is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.evidence.signedby import ByKey, Expected
from keepstone.identity.principal import Grant, Principal
from keepstone.identity.signing import VerifyingKey
from keepstone.policy.certified import CertifiedSigner

SCHEMA = "keepstone.policy/v1"
PROFILES = ("local", "production")

MODEL_ACTIONS = frozenset(
    {
        "model.predict",
        # To see that it is there, and what is known of it.
        "model.read",
        "model.push",
        # To take a version that the gate admits out of the registry.
        "model.pull",
        # To take one that it does not admit: somebody must look at it before they approve it.
        "model.examine",
        "model.alias",
        "model.promote",
        "model.deprecate",
    }
)
SYSTEM_ACTIONS = frozenset({"metrics.read", "ledger.read", "keys.manage", "registry.collect"})
ACTIONS = MODEL_ACTIONS | SYSTEM_ACTIONS
RIGHTS = frozenset(
    {
        "state.scan",
        "state.vulnerabilities",
        "state.robustness",
        "state.privacy",
        "state.poisoning",
        "state.training",
        "state.signature",
        "state.approval",
        "state.bom",
        "state.revocation",
        "state.reinstatement",
        # No statement of its own: their waivers count where the observer looks at packages.
        "state.waiver",
    }
)
PRODUCTION_EVIDENCE = ("scan", "training", "signature", "approval")
EVIDENCE = (*PRODUCTION_EVIDENCE, "vulnerabilities", "robustness", "privacy", "poisoning")
METHODS = frozenset({"api_key", "token", "local"})
# Bound by the workspace to keys of its own, never by the file to anybody else's.
OBSERVER, GATE = "observer", "gate"
OBSERVER_RIGHTS = frozenset({"state.scan", "state.signature", "state.vulnerabilities"})
PUBLISHER = "publisher"


@dataclass(frozen=True, slots=True)
class PolicySigner:
    """Whose statements count, and the roles that say for what. One name, one person.

    Either a key, whose holder may sign models and statements, or an identity that an authority
    certifies, whose holder signs models.
    """

    name: str
    roles: frozenset[str]
    key: VerifyingKey | None
    certified: CertifiedSigner | None = None

    @property
    def signer_id(self) -> str:
        """The key's id, or that of the certified identity: what revocations name."""
        if self.key is not None:
            return self.key.key_id
        assert self.certified is not None
        return self.certified.signer_id

    def expected(self, now: int) -> Expected:
        """What a model signature of theirs must show at `now` (ms)."""
        if self.key is not None:
            return ByKey(self.key)
        assert self.certified is not None
        return self.certified.expected(now)


@dataclass(frozen=True, slots=True)
class Binding:
    """A grant to a principal, for credentials that carry no grants of their own."""

    principal: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class RobustnessBar:
    """How robust is enough: the lower end of the accuracy under every perturbation up to `eps`.

    An attacker may change every feature, or is held to the `constraints` with this digest.
    """

    norm: str
    eps: float
    at_least: float
    constraints: Digest | None = None


@dataclass(frozen=True, slots=True)
class PrivacyBar:
    """How private is enough: the upper end of the share of members that an attack tells where it
    accuses at most `fpr` of the others, by no fewer than so many shadow models."""

    fpr: float
    at_most: float
    shadows: int


@dataclass(frozen=True, slots=True)
class PoisoningBar:
    """How much poison is withstood: the lower end of the accuracy that is certified against so many
    `poisons` in the training data.

    Its certificates were attacked through no fewer than `attacked` rows. With `data`, it is about
    training on what has this digest.
    """

    poisons: int
    at_least: float
    attacked: int
    data: Digest | None = None


Bar = RobustnessBar | PrivacyBar | PoisoningBar


@dataclass(frozen=True, slots=True)
class Requirement:
    """Evidence that an admission needs.

    `count` persons with `role` must each have stated it less than `max_age_ms` ago (None: at any
    time), none of whom acted in a role of `distinct_from` for the same artifact. For a signature,
    `role` is that of the publisher whose signature was seen. For vulnerabilities, the database
    must have been younger than `max_database_age_ms`, and must still be. For what is
    measured of a model under attack, `bar` is what has to be reached.
    """

    id: str
    evidence: str
    role: str
    max_age_ms: int | None
    count: int
    distinct_from: tuple[str, ...]
    max_database_age_ms: int | None = None
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class RoleLimit:
    """How often a principal with one role may ask, in place of what all others may."""

    per_second: int
    burst: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gateway lets through, before and after it knows who asks.

    Of several `roles` that a principal holds, the first one here counts.
    """

    address_per_second: int
    address_burst: int
    principal_per_second: int
    principal_burst: int
    max_body_bytes: int
    max_connections: int
    max_connections_per_address: int
    header_timeout_ms: int
    body_timeout_ms: int
    roles: Mapping[str, RoleLimit]

    def of_roles(self, roles: Collection[str]) -> RoleLimit | None:
        """The limit of its own that somebody with these roles has."""
        return next((limit for role, limit in self.roles.items() if role in roles), None)


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """How long an admission lasts, and whether an unproven origin may be admitted."""

    lifetime_ms: int
    origin_must_be_proven: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """A place that versions are promoted to. With `four_eyes` two principals have to want it,
    and the second is not who pushed the version."""

    name: str
    four_eyes: bool


@dataclass(frozen=True, slots=True)
class RegistryRules:
    """What the registry holds at most, what a version must say of itself, and the stages.

    `attributes` are those that each version must have, with the values that are allowed; none
    listed allows any. `local_roles` are held, on every model, by whoever opens the workspace's
    folder on its own machine.
    """

    max_models: int
    max_versions: int
    max_version_bytes: int
    max_bytes: int
    proposal_lifetime_ms: int
    attributes: Mapping[str, frozenset[str]]
    stages: tuple[Stage, ...]
    local_roles: frozenset[str]

    def stage(self, name: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy. `digest` is over the file's bytes, so it covers every signer's key."""

    profile: str
    roles: Mapping[str, frozenset[str]]
    signers: tuple[PolicySigner, ...]
    bindings: tuple[Binding, ...]
    requirements: tuple[Requirement, ...]
    methods: frozenset[str]
    limits: Limits
    audit_mode: str
    admission: AdmissionRules
    token_max_lifetime_ms: int
    key_max_lifetime_ms: int
    registry: RegistryRules | None
    digest: Digest

    def grants_of(self, principal: Principal) -> frozenset[Grant]:
        """The grants in force for `principal`.

        A credential with grants of its own has those and no more, however much the file binds to
        its principal: a key minted for one model stays a key for one model.
        """
        if principal.grants:
            return principal.grants
        bound = {bind.grant for bind in self.bindings if bind.principal == principal.id}
        if self.registry is not None and principal.is_local:
            bound |= {Grant(role) for role in self.registry.local_roles}
        return frozenset(bound)
