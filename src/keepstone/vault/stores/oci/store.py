"""Sealed blobs in a repository of a registry: one artifact each, under a tag made of its address.

Promise: a blob is seen with the manifest that is put last, or not at all; what is read hashes to
what its manifest says, and its manifest to what was asked for. The registry sees ciphertext,
digests and names, and no key. It may forget, and it may answer with an older one: what is
newest is in the ledger.

    <name>.<digest in base 32> -> manifest (artifactType) -> one layer: the sealed blob

Source: OCI Image Specification 1.1, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager

from keepstone.core.digest import Digest
from keepstone.core.subject import check_name
from keepstone.errors import InputError, VerificationError
from keepstone.vault.overlap import Sink
from keepstone.vault.stores.address import OciAddress
from keepstone.vault.stores.oci.manifest import (
    EMPTY_CONFIG,
    IMAGE_MANIFEST,
    Descriptor,
    Manifest,
    malformed,
)
from keepstone.vault.stores.oci.registry import Registry, open_registry
from keepstone.vault.stores.oci.wire import timed_out
from keepstone.vault.stores.patience import Ahead
from keepstone.vault.stores.port import Fact, Held, Leftover, Stream, Written, missing

ARTIFACT_TYPE = "application/vnd.keepstone.sealed.v1"
LAYER_TYPE = "application/vnd.keepstone.sealed.v1.blob"


def open_oci(address: OciAddress, environment: Mapping[str, str]) -> OciStore:
    """The store at `address`; nothing is asked of it yet. Raises as `open_registry`."""
    return OciStore(address, open_registry(environment))


class OciStore:
    """Blobs in one repository. Any thread may use it."""

    def __init__(self, address: OciAddress, registry: Registry) -> None:
        self.address = address
        self._registry = registry
        self._repository = address.repository

    def __repr__(self) -> str:
        return f"OciStore({self.place!r})"

    @property
    def place(self) -> str:
        return str(self.address)

    def write(self, digest: Digest, name: str, fill: Callable[[Sink], object]) -> Written:
        """(1) The blob goes in as a layer that nothing names. (2) Its manifest names it.

        `pin` is the manifest's digest. Raises OperationalError `oci.*`, and what `fill` raises.
        """
        tag = tag_of(digest, name)
        # (1)
        with self._registry.upload(self._repository) as upload:
            fill(upload.write)
            layer, size = upload.finish()
        self._registry.push_empty_config(self._repository)
        # (2)
        document = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": EMPTY_CONFIG.to_dict(),
            "layers": [Descriptor(LAYER_TYPE, layer, size).to_dict()],
            "annotations": {"keepstone.artifact": str(digest), "keepstone.name": name},
        }
        put = self._registry.push_manifest(self._repository, document, tag=tag)
        return Written(size, str(put.digest))

    @contextmanager
    def open(self, digest: Digest, name: str, pin: str | None = None) -> Iterator[Stream]:
        """Raises InputError `blob.missing`, OperationalError and VerificationError `oci.*`."""
        reference = self._repository.tagged(tag_of(digest, name))
        if pin is not None:
            reference = reference.at(Digest.parse(pin))
        try:
            layer = _layer(self._registry.manifest(reference))
        except InputError as error:
            raise _as_missing(error, digest, name) from error
        limits = self._registry.limits

        def pieces() -> Generator[bytes, None, None]:
            try:
                with self._registry.stream(reference, layer.digest, size=layer.size) as found:
                    yield from found
            except InputError as error:
                raise _as_missing(error, digest, name) from error

        # The client gives up by itself; this is only later than that.
        patience = limits.answer_s + limits.grace_s + limits.silence_s
        with Ahead(pieces(), patience, lambda: timed_out(reference.host)) as stream:
            yield stream

    def has(self, digest: Digest, name: str) -> bool:
        return self._registry.find(self._repository.tagged(tag_of(digest, name))) is not None

    def delete(self, digest: Digest, name: str) -> None:
        """Remove the manifest; the registry's own collection then removes the layer.

        Raises OperationalError `oci.no_delete` where the registry does not delete.
        """
        found = self._registry.find(self._repository.tagged(tag_of(digest, name)))
        if found is not None:
            self._registry.delete_manifest(self._repository, found)

    def addresses(self) -> Iterator[Held]:
        found = [
            (address, tag)
            for tag in self._registry.tags(self._repository)
            if (address := parse_tag(tag)) is not None
        ]
        for (digest, name), tag in sorted(found):
            try:
                size = _layer(self._registry.manifest(self._repository.tagged(tag))).size
            except VerificationError:
                # What lies there is none of ours, and whoever opens it is told so.
                size = 0
            except InputError as error:
                if error.code != "oci.missing":
                    raise
                # Removed since the tags were listed.
                continue
            yield Held(digest, name, size)

    def leftovers(self) -> Iterator[Leftover]:
        """None: a registry tells nobody of the uploads that were not finished, and ends them."""
        return iter(())

    def remove(self, leftover: Leftover) -> None:
        """There is none."""

    def require_usable(self) -> None:
        """Raises OperationalError `oci.*` where it is not reached, or we may not push."""
        self._registry.tags(self._repository)
        self._registry.push_empty_config(self._repository)

    def examine(self) -> Iterator[Fact]:
        self._registry.tags(self._repository)
        yield Fact("ok", f"{self.place} is reached")
        yield Fact("ok", "a registry keeps no versions and locks nothing: keep a backup of it")

    def close(self) -> None:
        self._registry.close()


def tag_of(digest: Digest, name: str) -> str:
    """At most 117 characters of the 128 that a tag may have."""
    return f"{check_name(name)}.{base64.b32encode(digest.raw).decode('ascii').rstrip('=').lower()}"


def parse_tag(tag: str) -> tuple[Digest, str] | None:
    """The address that `tag` belongs to, or None: whatever else is tagged there is no blob."""
    name, _, code = tag.rpartition(".")
    try:
        found = Digest(base64.b32decode(code.upper() + "====").hex()), check_name(name)
    except (InputError, ValueError):
        return None
    # Base 32 has more than one spelling of a value; ours is one.
    return found if tag_of(*found) == tag else None


def _layer(manifest: Manifest) -> Descriptor:
    if (
        manifest.artifact_type != ARTIFACT_TYPE
        or len(manifest.layers) != 1
        or manifest.layers[0].media_type != LAYER_TYPE
    ):
        raise malformed("what is tagged there is no sealed blob")
    return manifest.layers[0]


def _as_missing(error: InputError, digest: Digest, name: str) -> InputError:
    return missing(digest, name) if error.code == "oci.missing" else error
