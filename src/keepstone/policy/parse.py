"""Reading the policy file: every section present, every key known, every name resolved.

What is in force stands in the file: nothing is filled in from defaults, so a reader of the file
sees all of it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.evidence.robustness import NORMS
from keepstone.identity.principal import Grant, check_principal_id
from keepstone.identity.signing import VerifyingKey, parse_public_pem
from keepstone.policy.certified import CertifiedSigner, read_authority, read_issuer, to_toml
from keepstone.policy.document import (
    ACTIONS,
    EVIDENCE,
    GATE,
    METHODS,
    OBSERVER,
    OBSERVER_RIGHTS,
    PRODUCTION_EVIDENCE,
    PROFILES,
    PUBLISHER,
    RIGHTS,
    SCHEMA,
    AdmissionRules,
    Bar,
    Binding,
    Limits,
    PoisoningBar,
    Policy,
    PolicySigner,
    PrivacyBar,
    Requirement,
    RobustnessBar,
    RoleLimit,
)
from keepstone.policy.fields import MAX_ITEMS, Table
from keepstone.policy.registry import read_registry

MAX_POLICY_BYTES = 1 << 20
MAX_REQUIREMENTS = 16
MAX_COUNT = 16
DAY_MS = 86_400_000
MAX_ADMISSION_MS = DAY_MS
_VERSION = re.compile(r"keepstone\.policy/v[0-9]+\Z")
_MISSPELT = "Look at the names under [roles]."


def profile_text(name: str) -> bytes:
    """The policy file of a profile, as it ships. Raises InputError `policy.unknown_profile`."""
    if name not in PROFILES:
        raise InputError(
            "policy.unknown_profile",
            f"There is no profile {name[:64]!r}.",
            f"Choose one of {', '.join(PROFILES)}.",
        )
    return (files("keepstone.policy") / "profiles" / f"{name}.toml").read_bytes()


def parse_policy(data: bytes) -> Policy:
    """Read a policy file.

    Raises InputError: `policy.malformed` (not TOML), `policy.invalid` (a key, name or value that
    cannot be), `policy.newer_version`, `policy.weaker_than_profile`.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise InputError("policy.malformed", "The policy file is larger than 1 MiB.")
    try:
        text = data.decode("utf-8")
        top = Table(tomllib.loads(text), "", text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(
            "policy.malformed",
            f"The policy file is not TOML: {error}.",
            "Mend it, or start again from `keepstone policy show --profile local`.",
        ) from error
    _check_schema(top)
    profile = top.one_of("profile", PROFILES)
    roles = _roles(top.table("roles"))
    policy = Policy(
        profile=profile,
        roles=roles,
        signers=_signers(top, roles),
        bindings=tuple(_binding(table, roles) for table in top.tables("bindings")),
        requirements=_requirements(top, roles),
        methods=_methods(top.table("access")),
        limits=_limits(top.table("limits"), roles),
        audit_mode=_audit(top.table("audit")),
        admission=_admission(top.table("admission")),
        token_max_lifetime_ms=_lifetime(top.table("tokens"), 3_600_000),
        key_max_lifetime_ms=_lifetime(top.table("keys"), 366 * DAY_MS),
        registry=read_registry(top.table("registry"), roles) if top.has("registry") else None,
        digest=Digest.of(data),
    )
    top.done()
    _check_profile(policy)
    return policy


def add_signer(
    data: bytes, name: str, roles: tuple[str, ...], who: VerifyingKey | CertifiedSigner
) -> bytes:
    """Return the policy file with one more signer at its end, read back to be sure.

    Raises as `parse_policy`, and so refuses a role or key that cannot be.
    """
    listed = ", ".join(f'"{role}"' for role in roles)
    if isinstance(who, VerifyingKey):
        wanted = PolicySigner(name, frozenset(roles), who)
        told = f'public_key = """\n{who.pem.decode("ascii").strip()}\n"""\n'
    else:
        wanted = PolicySigner(name, frozenset(roles), None, who)
        told = to_toml(who)
    block = f'\n[[signers]]\nname = "{name}"\nroles = [{listed}]\n{told}'
    result = data.rstrip() + b"\n" + block.encode("utf-8", "replace")
    added = parse_policy(result).signers[-1]
    if (added.name, added.roles, added.signer_id) != (name, wanted.roles, wanted.signer_id):
        raise InputError("policy.invalid", "The signer's name or roles cannot be written down.")
    return result


def _check_schema(top: Table) -> None:
    schema = top.string("schema")
    if schema == SCHEMA:
        return
    if _VERSION.match(schema):
        raise InputError(
            "policy.newer_version",
            f"The policy file is {schema}, and this build reads {SCHEMA}.",
            "Upgrade Keepstone.",
        )
    raise top.fault(f"`schema` is not {SCHEMA!r}")


def _roles(table: Table) -> Mapping[str, frozenset[str]]:
    roles: dict[str, frozenset[str]] = {}
    for name in table.value:
        inner = table.table(name)
        grants = inner.strings("grants")
        inner.done()
        inner.named("role", name)
        for grant in grants:
            if grant not in ACTIONS | RIGHTS:
                raise inner.fault(
                    f"{grant[:64]!r} is neither an action nor a right",
                    f"Known are: {', '.join(sorted(ACTIONS | RIGHTS))}.",
                )
        roles[name] = frozenset(grants)
    if GATE in roles:
        raise table.fault("`gate` is the gate's own role and cannot be defined")
    if not roles.get(OBSERVER, frozenset()) <= OBSERVER_RIGHTS:
        raise table.fault(
            f"`observer` may state only what was seen: {', '.join(sorted(OBSERVER_RIGHTS))}"
        )
    return MappingProxyType(roles)


def _signers(top: Table, roles: Mapping[str, frozenset[str]]) -> tuple[PolicySigner, ...]:
    signers = [_signer(table, roles) for table in top.tables("signers")]
    # One key under two names would let one person count as two.
    if len({signer.signer_id for signer in signers}) != len(signers):
        raise top.fault("two [[signers]] have the same public key, or the same certificate")
    people: dict[tuple[str, str], str] = {}
    for signer in signers:
        if signer.certified is not None:
            name = people.setdefault(signer.certified.who, signer.name)
            if name != signer.name:
                raise top.fault(f"{name} and {signer.name} are the same certified identity")
    return tuple(signers)


def _signer(table: Table, roles: Mapping[str, frozenset[str]]) -> PolicySigner:
    name = table.name("name")
    if name in (OBSERVER, GATE):
        raise table.fault(f"the name `{name}` is kept for the workspace's own key")
    held = frozenset(table.known(role, roles) for role in table.names("roles"))
    if OBSERVER in held:
        raise table.fault("the role `observer` is kept for the workspace's own key")
    given = [one for one in ("public_key", "certificate", "keyless") if table.has(one)]
    if len(given) > 1:
        raise table.fault(f"{name} has both `{given[0]}` and `{given[1]}`", "Make them two.")
    try:
        signer = _known_by(table, name, held)
    except InputError as error:
        if error.code == "policy.invalid":
            raise
        what = "public key" if not given or given == ["public_key"] else "certificate"
        raise table.fault(f"the {what} of {name} cannot be used: {error.cause}") from error
    table.done()
    return signer


def _known_by(table: Table, name: str, roles: frozenset[str]) -> PolicySigner:
    """The signer by what names them: a key, an authority's certificate, or an issuer."""
    if table.has("certificate"):
        return PolicySigner(name, roles, None, read_authority(table.table("certificate")))
    if table.has("keyless"):
        return PolicySigner(name, roles, None, read_issuer(table.table("keyless")))
    key = parse_public_pem(table.string("public_key").encode("utf-8"))
    return PolicySigner(name, roles, key)


def _binding(table: Table, roles: Mapping[str, frozenset[str]]) -> Binding:
    principal = table.string("principal")
    role = table.known(table.name("role"), roles)
    models = table.strings("models")
    versions = table.integers("versions", 1) if table.has("versions") else ()
    where = _where(table.table("where")) if table.has("where") else ()
    table.done()
    try:
        return Binding(check_principal_id(principal), Grant(role, models, versions, where))
    except InputError as error:
        raise table.fault(error.cause.rstrip("."), error.next_step) from error


def _where(table: Table) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not table.value:
        raise table.fault("no attribute is named", "Leave `where` out, or name one.")
    return tuple((table.named("where", name), table.names(name)) for name in table.value)


def _requirements(top: Table, roles: Mapping[str, frozenset[str]]) -> tuple[Requirement, ...]:
    tables = top.tables("require")
    if not tables or len(tables) > MAX_REQUIREMENTS:
        raise top.fault(f"there must be 1 to {MAX_REQUIREMENTS} of [[require]]")
    found = [_requirement(table, roles) for table in tables]
    ids = [requirement.id for requirement in found]
    if len(set(ids)) != len(ids):
        raise top.fault("two [[require]] have the same `id`", "Give the second an `id` of its own.")
    return tuple(found)


def _requirement(table: Table, roles: Mapping[str, frozenset[str]]) -> Requirement:
    evidence = table.one_of("evidence", EVIDENCE)
    role = table.known(table.name("role"), roles)
    # A signature is stated by the observer; the role asked for is the publisher's.
    if evidence != "signature" and f"state.{evidence}" not in roles[role]:
        raise table.fault(f"the role {role!r} lacks the right state.{evidence}", _MISSPELT)
    if evidence in ("scan", "vulnerabilities"):
        # Not evaluated never reads as clean, so there is no other result to ask for.
        table.one_of("result", ("clean",))
    requirement = Requirement(
        id=table.name("id") if table.has("id") else evidence,
        evidence=evidence,
        role=role,
        max_age_ms=table.duration("max_age", 3660 * DAY_MS) if table.has("max_age") else None,
        count=table.integer("count", 1, MAX_COUNT) if table.has("count") else 1,
        distinct_from=_distinct(table, roles),
        max_database_age_ms=_database_age(table, evidence),
        bar=_bar(table, evidence),
    )
    table.done()
    return requirement


def _database_age(table: Table, evidence: str) -> int | None:
    if evidence != "vulnerabilities" or not table.has("max_database_age"):
        return None
    return table.duration("max_database_age", 3660 * DAY_MS)


def _bar(table: Table, evidence: str) -> Bar | None:
    """What is enough stands in the file: a threshold that nobody wrote is nobody's."""
    if evidence == "robustness":
        return RobustnessBar(
            norm=table.one_of("norm", tuple(sorted(NORMS))),
            eps=table.decimal("eps", 0.0, 1e9),
            at_least=table.decimal("at_least", 0.0, 1.0),
            constraints=_digest(table, "constraints", "`keepstone attack` tells"),
        )
    if evidence == "privacy":
        return PrivacyBar(
            fpr=table.decimal("fpr", 0.0, 0.5),
            at_most=table.decimal("at_most", 0.0, 1.0),
            shadows=table.integer("shadows", 0, 1024) if table.has("shadows") else 0,
        )
    if evidence == "poisoning":
        return PoisoningBar(
            # None at all is what any held-out accuracy says.
            poisons=table.integer("poisons", 1, 10_000),
            at_least=table.decimal("at_least", 0.0, 1.0),
            attacked=table.integer("attacked", 1, 1_000_000) if table.has("attacked") else 0,
            data=_digest(table, "data", "`keepstone harden partition` tells"),
        )
    return None


def _digest(table: Table, key: str, told: str) -> Digest | None:
    """A digest that may be left out; `told` says where it is from."""
    if not table.has(key):
        return None
    try:
        return Digest.parse(table.string(key))
    except InputError as error:
        raise table.fault(f"`{key}` is not the digest that {told}") from error


def _distinct(table: Table, roles: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    if not table.has("distinct_from"):
        return ()
    return tuple(table.known(role, roles) for role in table.names("distinct_from"))


def _methods(table: Table) -> frozenset[str]:
    methods = frozenset(table.strings("methods"))
    table.done()
    if not methods <= METHODS:
        raise table.fault(f"`methods` may hold {', '.join(sorted(METHODS))}")
    return methods


def _limits(table: Table, roles: Mapping[str, frozenset[str]]) -> Limits:
    limits = Limits(
        address_per_second=table.integer("address_per_second", 1, 1_000_000),
        address_burst=table.integer("address_burst", 1, 1_000_000),
        principal_per_second=table.integer("principal_per_second", 1, 1_000_000),
        principal_burst=table.integer("principal_burst", 1, 1_000_000),
        max_body_bytes=table.integer("max_body_bytes", 1, 1 << 30),
        max_connections=table.integer("max_connections", 1, 1_000_000),
        max_connections_per_address=table.integer("max_connections_per_address", 1, 1_000_000),
        header_timeout_ms=table.duration("header_timeout", 3_600_000),
        body_timeout_ms=table.duration("body_timeout", 3_600_000),
        roles=_role_limits(table.table("roles"), roles) if table.has("roles") else {},
    )
    table.done()
    return limits


def _role_limits(table: Table, roles: Mapping[str, frozenset[str]]) -> Mapping[str, RoleLimit]:
    found = {}
    for name in table.value:
        inner = table.table(name)
        found[inner.known(name, roles)] = RoleLimit(
            inner.integer("per_second", 1, 1_000_000), inner.integer("burst", 1, 1_000_000)
        )
        inner.done()
    return MappingProxyType(found)


def _audit(table: Table) -> str:
    mode = table.one_of("mode", ("strict", "group"))
    table.done()
    return mode


def _admission(table: Table) -> AdmissionRules:
    lifetime = table.duration("lifetime", MAX_ADMISSION_MS)
    origin = table.one_of("origin", ("any", "proven"))
    table.done()
    return AdmissionRules(lifetime, origin == "proven")


def _lifetime(table: Table, most_ms: int) -> int:
    lifetime = table.duration("max_lifetime", most_ms)
    table.done()
    return lifetime


def _check_profile(policy: Policy) -> None:
    """The profile's name is shown everywhere, so `production` must mean at least this."""
    if policy.profile != "production":
        return
    asked = {requirement.evidence for requirement in policy.requirements}
    missing = [
        f"[[require]] evidence = {kind!r}" for kind in PRODUCTION_EVIDENCE if kind not in asked
    ]
    approvals = [one for one in policy.requirements if one.evidence == "approval"]
    # Whoever made it, by whatever role the policy knows its makers.
    makers = {one.role for one in policy.requirements if one.evidence in ("signature", "training")}
    makers |= {PUBLISHER}
    if approvals and not any(makers <= set(one.distinct_from) for one in approvals):
        missing.append(f"distinct_from = {sorted(makers)} for the approval")
    if not policy.admission.origin_must_be_proven:
        missing.append("origin = 'proven' under [admission]")
    if missing:
        raise InputError(
            "policy.weaker_than_profile",
            f"The policy calls itself production and lacks {', '.join(missing)}.",
            "Add it, or write profile = 'local'.",
        )


__all__ = ["MAX_ADMISSION_MS", "MAX_ITEMS", "add_signer", "parse_policy", "profile_text"]
