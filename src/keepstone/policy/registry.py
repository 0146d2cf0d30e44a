"""Reading `[registry]`: what it holds at most, what versions say of themselves, and the stages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from keepstone.policy.document import RegistryRules, Stage
from keepstone.policy.fields import Table

_MAX_MODELS = 1_000_000
_MAX_BYTES = 1 << 60
_MAX_PROPOSAL_MS = 90 * 86_400_000
# What the registry itself says of a version, so no version can claim it.
STAGE = "stage"


def read_registry(table: Table, roles: Mapping[str, frozenset[str]]) -> RegistryRules:
    """Raises InputError `policy.invalid`."""
    rules = RegistryRules(
        max_models=table.integer("max_models", 1, _MAX_MODELS),
        max_versions=table.integer("max_versions", 1, _MAX_MODELS),
        max_version_bytes=table.integer("max_version_bytes", 1, _MAX_BYTES),
        max_bytes=table.integer("max_bytes", 1, _MAX_BYTES),
        proposal_lifetime_ms=table.duration("proposal_lifetime", _MAX_PROPOSAL_MS),
        attributes=_attributes(table.table("attributes")),
        stages=_stages(table),
        local_roles=frozenset(table.known(role, roles) for role in table.names("local_roles")),
    )
    table.done()
    return rules


def _attributes(table: Table) -> Mapping[str, frozenset[str]]:
    allowed = {table.named("attribute", name): frozenset(table.names(name)) for name in table.value}
    if STAGE in allowed:
        raise table.fault(f"`{STAGE}` is what the registry says of a version, not its pusher")
    return MappingProxyType(allowed)


def _stages(table: Table) -> tuple[Stage, ...]:
    inner = table.table("stages")
    stages = []
    for name in inner.value:
        one = inner.table(name)
        stages.append(Stage(inner.named("stage", name), one.boolean("four_eyes")))
        one.done()
    return tuple(sorted(stages, key=lambda stage: stage.name))
