"""Manifests and the descriptors in them, parsed once and held to the specification's shape.

Source: OCI Image Specification 1.1, descriptor, manifest, image index; Docker's schema 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.core.digest import Digest
from keepstone.errors import InputError, VerificationError

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
# The manifest's media types that we ask for and take.
ACCEPTED = (IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
_LARGEST = 1 << 53


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A content by its digest and size."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    platform: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.platform is not None:
            found["platform"] = dict(self.platform)
        return found


# What an artifact without a configuration has in its place (OCI image manifest, guidelines).
EMPTY_CONTENT = b"{}"
EMPTY_CONFIG = Descriptor(EMPTY_TYPE, Digest.of(EMPTY_CONTENT), len(EMPTY_CONTENT))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index as it was served: `data` is what `digest` is of."""

    media_type: str
    digest: Digest
    data: bytes = field(repr=False)
    document: Mapping[str, Any] = field(repr=False)
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    # Of an index; empty in a manifest.
    manifests: tuple[Descriptor, ...]
    artifact_type: str | None
    annotations: Mapping[str, str]
    subject: Descriptor | None

    @property
    def is_index(self) -> bool:
        return self.media_type in (IMAGE_INDEX, DOCKER_LIST)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.data))


def parse_manifest(data: bytes, media_type: str | None = None) -> Manifest:
    """Read a manifest; `media_type` is what its server called it, and must be what it is.

    Raises VerificationError `oci.malformed`.
    """
    try:
        document: Any = parse_json(data, limit=len(data))
    except InputError as error:
        raise malformed("a manifest is not JSON") from error
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise malformed("a manifest has not the schema version 2")
    written = document.get("mediaType", media_type)
    if written not in ACCEPTED or media_type not in (None, written):
        raise malformed("a manifest says that it is of another kind than its server says")
    # One document that is read as both is read differently by different programs.
    is_index = written in (IMAGE_INDEX, DOCKER_LIST)
    others = {"layers", "config"} if is_index else {"manifests"}
    if others & document.keys():
        raise malformed("a manifest is an index too")
    manifests = _descriptors(document, "manifests") if is_index else ()
    return Manifest(
        media_type=written,
        digest=Digest.of(data),
        data=data,
        document=document,
        config=None if is_index else parse_descriptor(document.get("config")),
        layers=() if is_index else _descriptors(document, "layers"),
        manifests=manifests,
        artifact_type=_text(document.get("artifactType")),
        annotations=_annotations(document.get("annotations")),
        subject=parse_descriptor(document["subject"]) if "subject" in document else None,
    )


def _descriptors(document: Mapping[str, Any], member: str) -> tuple[Descriptor, ...]:
    items = document.get(member)
    if not isinstance(items, list):
        raise malformed(f"a manifest has no list of {member}")
    return tuple(parse_descriptor(item) for item in items)


def parse_descriptor(item: Any) -> Descriptor:
    """Raises VerificationError `oci.malformed`."""
    match item:
        case {"mediaType": str() as kind, "digest": str() as digest, "size": int() as size} if (
            type(size) is int and 0 <= size < _LARGEST and digest.startswith("sha256:")
        ):
            platform = item.get("platform")
            try:
                return Descriptor(
                    kind,
                    Digest.parse(digest),
                    size,
                    _annotations(item.get("annotations")),
                    _text(item.get("artifactType")),
                    platform if isinstance(platform, dict) else None,
                )
            except InputError as error:
                raise malformed("a digest in it is not a SHA-256") from error
    raise malformed("a descriptor in it has no kind, SHA-256 digest and size")


def _annotations(item: Any) -> Mapping[str, str]:
    if item is None:
        return {}
    if not isinstance(item, dict) or not all(isinstance(one, str) for one in item.values()):
        raise malformed("its annotations are not texts")
    return item


def _text(item: Any) -> str | None:
    if item is not None and not isinstance(item, str):
        raise malformed("its artifact type is not a text")
    return item


def malformed(why: str) -> VerificationError:
    return VerificationError(
        "oci.malformed",
        f"The registry's answer cannot be used: {why}.",
        "Ask whoever runs the registry, or whoever pushed this.",
    )
