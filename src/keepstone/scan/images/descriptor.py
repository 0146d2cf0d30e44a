"""What an image says of a blob that it needs: type, digest and size (OCI image spec 1.1).

Nothing that a descriptor says is believed of the blob until its bytes were counted and hashed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.errors import InputError
from keepstone.scan.rules import printable

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
# What a layer of each type is packed with. One of a docker archive has no type.
LAYERS: Mapping[str, str | None] = {
    "": None,
    "application/vnd.oci.image.layer.v1.tar": "plain",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "plain",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}
# What buildx puts into an index beside its images. No runtime makes a container of it.
ATTESTATION = "application/vnd.in-toto+json"
NO_PLATFORM = "unknown/unknown"

_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")
_MAX_SIZE = 1 << 50


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob by `digest` and `size`. `place` is where a docker archive keeps it: there a digest
    may be empty, and what comes out of the blob is verified instead."""

    media_type: str
    digest: str
    size: int
    platform: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    place: str = ""

    @property
    def shown(self) -> str:
        return self.digest or self.place


def check_digest(value: Any) -> str:
    """`value` if it is a SHA-256 or SHA-512 digest, else InputError `image.malformed`."""
    if not isinstance(value, str) or _DIGEST.match(value) is None:
        raise InputError("image.malformed", "A digest is no SHA-256 or SHA-512 in lower-case hex.")
    return value


def parse_descriptor(value: Any) -> Descriptor:
    """Read one descriptor. Raises InputError `image.malformed`."""
    if not isinstance(value, dict):
        raise InputError("image.malformed", "A descriptor is no JSON object.")
    media_type, size = value.get("mediaType", ""), value.get("size")
    if not isinstance(media_type, str) or len(media_type) > 255:
        raise InputError("image.malformed", "A descriptor has no media type.")
    if type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise InputError("image.malformed", "A descriptor has no size.")
    urls = value.get("urls") or []
    if not isinstance(urls, list):
        raise InputError("image.malformed", "A descriptor's addresses are no list.")
    return Descriptor(
        media_type,
        check_digest(value.get("digest")),
        size,
        _platform(value.get("platform")),
        texts(value.get("annotations")),
        tuple(str(url) for url in urls),
    )


def texts(value: Any) -> dict[str, str]:
    """A JSON object of texts; what is none in it is left out."""
    if not isinstance(value, dict):
        return {}
    return {key: one for key, one in value.items() if isinstance(one, str)}


def _platform(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    return platform_name(value.get("os"), value.get("architecture"), value.get("variant"))


def platform_name(system: Any, architecture: Any, variant: Any = None) -> str:
    """`os/architecture[/variant]`, fit to be shown, or nothing where either is not said."""
    parts = [part for part in (system, architecture, variant) if isinstance(part, str) and part]
    return printable("/".join(parts)) if len(parts) > 1 else ""


def is_platform(wanted: str, given: str) -> bool:
    """True where `given` is the platform that was asked for; a variant counts if it is asked."""
    ask, have = wanted.split("/"), given.split("/")
    return have[: len(ask)] == ask
