"""Images made by hand, layer by layer, and layouts whose documents say what a test wants."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backports import zstd

from keepstone.scan.images.found import ImageFinding, ImageReport, ImagesReport
from keepstone.scan.images.judge import Asked, scan_images
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.open import open_images
from keepstone.scan.images.packages import PackageCheck
from keepstone.scan.images.select import Choice

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ACCOUNTS = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\nzero:x:000:7::/:/bin/sh\n"

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"text\n", mode: int = 0o644, **more: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, mode: int = 0o755) -> Member:
    return file(name, b"", mode, type=tarfile.DIRTYPE)


def symlink(name: str, target: str) -> Member:
    return file(name, b"", 0o777, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str, mode: int = 0o644) -> Member:
    return file(name, b"", mode, type=tarfile.LNKTYPE, linkname=target)


def tar(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


BASE = tar(file("etc/passwd", ACCOUNTS))


@dataclass
class Made:
    """An image of one layer or more; what its documents say can be changed before it is written."""

    layers: list[bytes] = field(default_factory=lambda: [BASE])
    media_types: list[str] | None = None
    config: dict[str, Any] = field(default_factory=lambda: {"User": "app"})
    manifest: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """The descriptor of a blob that the layout is to hold."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def described(self, **more: Any) -> dict[str, Any]:
        """Add the image's blobs, and return the descriptor of its manifest."""
        types = self.media_types or [LAYER + _ending(layer) for layer in self.layers]
        layers = [self.blob(one, kind) for one, kind in zip(self.layers, types, strict=True)]
        config = {
            "os": "linux",
            "architecture": "amd64",
            "config": self.config,
            **self.document,
        }
        if "rootfs" not in config:
            config["rootfs"] = {"type": "layers", "diff_ids": [diff_id(one) for one in self.layers]}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(dumped(config), CONFIG),
            "layers": layers,
            **self.manifest,
        }
        return self.blob(dumped(manifest), MANIFEST, **more)

    def write(self, root: Path, *manifests: dict[str, Any], **index: Any) -> Path:
        """A layout that names `manifests`, else this image alone."""
        named = list(manifests) or [self.described()]
        root.mkdir(parents=True, exist_ok=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        document = {"schemaVersion": 2, "manifests": named, **index}
        (root / "index.json").write_bytes(dumped(document))
        for digest, data in self.blobs.items():
            path = root / "blobs" / digest.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return root


def image(*layers: bytes, **more: Any) -> Made:
    """An image of `layers` over one with `/etc/passwd`, that runs as `app`."""
    return Made([BASE, *layers], **more)


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def _ending(layer: bytes) -> str:
    marks = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}
    return marks.get(layer[:2], "")


def diff_id(layer: bytes) -> str:
    """The digest of what a layer unpacks to; of its bytes where it does not."""
    kind = _ending(layer)
    try:
        if kind == "+gzip":
            layer = gzip.decompress(layer)
        elif kind == "+zstd":
            layer = zstd.decompress(layer)
    except (OSError, EOFError, zstd.ZstdError):
        pass
    return f"sha256:{hashlib.sha256(layer).hexdigest()}"


def scanned(
    reference: Path | str,
    *,
    limits: Limits | None = None,
    packages: PackageCheck | None = None,
    platform: str = "",
    base: bool = False,
) -> ImagesReport:
    """The report on what `reference` names. Vulnerabilities are not asked for."""
    with open_images(str(reference), os.environ) as (store, name):
        asked = Asked(
            packages or PackageCheck(None, 0, asked=False),
            Choice(platform, name),
            limits or Limits(),
            base,
        )
        return scan_images(store, str(reference), asked)


def only(report: ImagesReport) -> ImageReport:
    (found,) = report.images
    return found


def findings(report: ImagesReport) -> list[ImageFinding]:
    return [*report.findings, *(item for one in report.images for item in one.findings)]


def rules(report: ImagesReport) -> set[str]:
    return {item.finding.rule for item in findings(report)}


def reasons(report: ImagesReport) -> str:
    return " ".join(item.finding.message for item in findings(report))


def at(report: ImagesReport, rule: str) -> list[str]:
    """The paths that `rule` found, in order."""
    return sorted(
        item.finding.location.path for item in findings(report) if item.finding.rule == rule
    )
