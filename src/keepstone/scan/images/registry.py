"""Images in a registry: read over the network, layer by layer, and written nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.scan.images.descriptor import INDEXES, MANIFESTS, Descriptor
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.manifest import Manifest
from keepstone.scan.images.select import Choice, NotJudged, Selection
from keepstone.vault.stores.oci.reference import Reference
from keepstone.vault.stores.oci.registry import Registry


@dataclass(frozen=True, slots=True)
class RegistryImages:
    """What a reference names. Raises as the registry's client does."""

    registry: Registry
    reference: Reference

    def images(self, choice: Choice, limits: Limits) -> Iterator[Manifest | NotJudged]:
        """The image, or every image of the index that was chosen."""
        found = self.registry.manifest(self.reference)
        said = Descriptor(found.media_type, str(found.digest), len(found.data))
        yield from Selection(self, choice, limits).within(found.data, said)

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        if not blob.digest.startswith("sha256:"):
            raise InputError("image.unsupported", "The registry is asked for SHA-256 digests only.")
        digest = Digest.parse(blob.digest)
        if blob.media_type in MANIFESTS | INDEXES:
            yield self.registry.manifest(self.reference.at(digest)).data
            return
        with self.registry.stream(self.reference, digest, size=blob.size) as pieces:
            yield from pieces
