"""Archives of images: a tar of an OCI layout, or what `docker save` writes. Nothing is unpacked.

The archive is read by its headers, and a blob from its place in it. An archive that is both kinds
at once, as newer Dockers write it, must hold the same images to both readers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.archive.paths import parts_of, resolve
from keepstone.scan.archive.tarheaders import (
    HARD,
    MAX_MEMBERS,
    REGULAR,
    SYMBOLIC,
    TarMember,
    read_tar_bytes,
)
from keepstone.scan.images.blobs import read_verified
from keepstone.scan.images.descriptor import OCI_INDEX, Descriptor
from keepstone.scan.images.disk import opened, read_from
from keepstone.scan.images.layout import INDEX, MARK, check_mark, missing
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.manifest import Manifest, Problem, case_problems, read_document
from keepstone.scan.images.naming import CONFIG_NAMES, DOCKER_NAMES
from keepstone.scan.images.select import Choice, NotJudged, Selection, rule_of
from keepstone.scan.strictjson import read_json

DOCKER = "manifest.json"
_CONFIG = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?\Z")
_MAX_LINKS = 16


@dataclass(frozen=True, slots=True)
class _Member:
    start: int
    size: int
    link: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _FileBytes:
    """The archive's bytes for the reader of its headers."""

    descriptor: int
    size: int

    def piece(self, at: int, length: int) -> bytes:
        return b"".join(read_from(self.descriptor, at, length))

    def reaches(self, end: int) -> bool:
        return end <= self.size


@dataclass(frozen=True, slots=True)
class Archive:
    """The images of one open archive."""

    descriptor: int
    members: dict[tuple[str, ...], _Member]
    problems: tuple[NotJudged, ...] = ()

    def images(self, choice: Choice, limits: Limits) -> Iterator[Manifest | NotJudged]:
        """Every image that was chosen. Raises InputError where the archive holds none."""
        yield from self.problems
        if self._find(MARK) is None and self._find(DOCKER) is None:
            cause = "The archive is neither an OCI layout nor what `docker save` writes."
            raise InputError("image.unsupported", cause)
        if self._find(MARK) is None:
            yield from self._docker(choice, limits)
            return
        check_mark(self._whole(MARK, limits))
        raw = self._whole(INDEX, limits)
        said = Descriptor(OCI_INDEX, "", len(raw), place=INDEX)
        configs = set()
        for item in Selection(self, choice, limits).within(raw, said):
            if isinstance(item, Manifest):
                configs.add(item.config.digest)
            yield item
        if self._find(DOCKER) is not None:
            yield from self._same(configs, choice, limits)

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        found = self._find(blob.place or "blobs/" + blob.digest.replace(":", "/"))
        if found is None:
            raise missing(blob)
        left = found.size
        for piece in read_from(self.descriptor, found.start, found.size):
            left -= len(piece)
            yield piece
        if left:
            raise InputError("image.malformed", f"The archive breaks off inside of {blob.shown}.")

    def _docker(self, choice: Choice, limits: Limits) -> Iterator[Manifest | NotJudged]:
        """What the older of the two readers, Docker's own, takes for the images."""
        try:
            read = read_json(self._whole(DOCKER, limits))
        except ValueError as error:
            cause = f"manifest.json is no strict JSON: {error}."
            raise InputError("image.malformed", cause) from None
        if not isinstance(read.value, list) or read.repeated:
            raise InputError("image.malformed", "manifest.json is no list with one meaning.")
        for problem in case_problems(read.value, DOCKER_NAMES):
            yield NotJudged(DOCKER, problem.reason, problem.rule)
        if len(read.value) > limits.manifests:
            yield NotJudged(DOCKER, "It has more images than the limit.", "image.not_evaluated")
        for item in read.value[: limits.manifests]:
            try:
                found = self._docker_image(item, limits)
            except KeepstoneError as error:
                yield NotJudged(DOCKER, error.cause, rule_of(error))
                continue
            if not choice.name or choice.name in found.tags:
                yield found

    def _docker_image(self, item: Any, limits: Limits) -> Manifest:
        described = item if isinstance(item, dict) else {}
        name, layers = described.get("Config"), _texts(described.get("Layers"))
        tags = _texts(described.get("RepoTags") or [])
        if not isinstance(name, str) or layers is None or tags is None:
            raise InputError("image.malformed", "manifest.json describes no image.")
        digest = _CONFIG.match(name)
        config = self._descriptor(name, f"sha256:{digest[1]}" if digest else "")
        # A layer's digest is what its bytes unpack to: the configuration has it.
        raw = read_verified(self, config, limits.document)
        document, problems = read_document(raw, CONFIG_NAMES)
        rootfs = document.get("rootfs")
        told = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(told, list) or len(told) != len(layers):
            reason = "The configuration and the archive differ in the number of layers."
            problems.append(Problem("image.blob_differs", reason))
        return Manifest(
            "",
            "docker-archive",
            config,
            tuple(self._descriptor(one, "") for one in layers),
            {},
            tags=tuple(tags),
            problems=tuple(problems),
        )

    def _same(self, configs: set[str], choice: Choice, limits: Limits) -> Iterator[NotJudged]:
        told = set()
        for item in self._docker(replace(choice, name=""), limits):
            if isinstance(item, Manifest):
                told.add(item.config.digest)
            elif item.rule == "image.ambiguous":
                yield item
        # With a choice the layout's side is only a part.
        same = told >= configs if choice.name or choice.platform else told == configs
        if not same:
            reason = "The archive holds other images for Docker than for a reader of OCI layouts."
            yield NotJudged(DOCKER, reason, "image.ambiguous")

    def _descriptor(self, name: str, digest: str) -> Descriptor:
        found = self._find(name)
        # What is not there is said when it is read.
        return Descriptor("", digest, found.size if found else 0, place=name)

    def _whole(self, name: str, limits: Limits) -> bytes:
        return read_verified(self, self._descriptor(name, ""), limits.document)

    def _find(self, name: str) -> _Member | None:
        """The file called `name`, through links inside of the archive."""
        parts: tuple[str, ...] | None = parts_of(name)
        for _ in range(_MAX_LINKS):
            found = self.members.get(parts) if parts is not None else None
            if found is None or found.link is None:
                return found
            parts = found.link
        return None


def _texts(value: Any) -> list[str] | None:
    """`value` if it is a list of texts."""
    whole = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return value if whole else None


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive and read its headers. Raises InputError where it is none."""
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        listing = _Listing()
        listing.read(_FileBytes(descriptor, size))
        yield Archive(descriptor, listing.members, tuple(listing.problems))


@dataclass(slots=True)
class _Listing:
    members: dict[tuple[str, ...], _Member] = field(default_factory=dict)
    problems: list[NotJudged] = field(default_factory=list)

    def read(self, source: _FileBytes) -> None:
        for item in read_tar_bytes(source, MAX_MEMBERS):
            if isinstance(item, TarMember):
                self._member(item)
            elif not self.members:
                step = "Give a layout's folder, or an archive that is not compressed."
                raise InputError("image.unsupported", "The file is no tar archive.", step)
            else:
                rule = "image.not_evaluated" if item.broken else "image.ambiguous"
                self._say("(archive)", item.reason, rule)

    def _member(self, item: TarMember) -> None:
        parts = parts_of(item.name)
        if item.kind in (REGULAR, "7"):
            found = _Member(item.start, item.size)
        elif item.kind == SYMBOLIC:
            found = _Member(0, 0, resolve(parts[:-1], item.link) or ())
        elif item.kind == HARD:
            found = _Member(0, 0, resolve((), item.link) or ())
        else:
            return
        if parts in self.members:
            reason = "The archive names one member twice: readers take different ones."
            self._say("/".join(parts), reason, "image.ambiguous")
        self.members[parts] = found

    def _say(self, where: str, reason: str, rule: str) -> None:
        if len(self.problems) < 100:
            self.problems.append(NotJudged(where, reason, rule))
