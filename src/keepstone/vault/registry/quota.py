"""Whether there is room for one more version. Pure; asked before bytes are taken, and again."""

from __future__ import annotations

from keepstone.errors import DeniedError
from keepstone.policy.document import RegistryRules
from keepstone.vault.registry.catalogue import Catalogue


def require_size(rules: RegistryRules, size: int) -> None:
    """Return if a version may have `size` bytes, else raise DeniedError `registry.quota`."""
    if size > rules.max_version_bytes:
        raise _full(f"a version has at most {rules.max_version_bytes:,} bytes")


def require_room(rules: RegistryRules, catalogue: Catalogue, name: str, sealed: int) -> None:
    """Return if one more version of `name`, of `sealed` bytes in the vault, fits.

    Collected versions keep their numbers and no bytes. Raises DeniedError `registry.quota`.
    """
    shelf = catalogue.shelves.get(name)
    if shelf is None and len(catalogue.shelves) >= rules.max_models:
        raise _full("it takes no further model")
    if shelf is not None:
        kept = sum(not version.collected for version in shelf.versions)
        if kept >= rules.max_versions:
            raise _full(f"it takes no further version of {name}")
    if catalogue.sealed + sealed > rules.max_bytes:
        raise _full("it takes no further bytes")


def _full(why: str) -> DeniedError:
    return DeniedError(
        "registry.quota",
        f"The registry is full: {why}.",
        "Collect what nobody needs (`keepstone registry collect`), or raise [registry] in the"
        " policy.",
    )
