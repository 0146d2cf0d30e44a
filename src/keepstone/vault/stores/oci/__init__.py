"""A client of OCI registries: what it returns is verified, whoever answers.

    registry = open_registry(os.environ)
    reference = Reference.parse("registry.example.org/team/image:1.4")
    manifest = registry.manifest(reference)
    registry.blob(reference, manifest.layers[0].digest, sink, size=manifest.layers[0].size)

Source: OCI Distribution Specification 1.1, OCI Image Specification 1.1, RFC 7235, and Docker's
token authentication (distribution/docs/spec/auth/token).
"""

from __future__ import annotations

from keepstone.vault.stores.oci.logins import Login, find_logins
from keepstone.vault.stores.oci.manifest import (
    EMPTY_CONFIG,
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    Descriptor,
    Manifest,
)
from keepstone.vault.stores.oci.reference import Reference
from keepstone.vault.stores.oci.registry import Registry, open_registry
from keepstone.vault.stores.oci.request import Limits

__all__ = [
    "EMPTY_CONFIG",
    "IMAGE_INDEX",
    "IMAGE_MANIFEST",
    "Descriptor",
    "Limits",
    "Login",
    "Manifest",
    "Reference",
    "Registry",
    "find_logins",
    "open_registry",
]
