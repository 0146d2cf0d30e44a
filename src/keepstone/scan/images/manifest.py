"""Manifests and indexes of images, read so that every runtime would read the same.

A document that is an image to one reader and an index to another (CVE-2021-41190), or that says a
key twice, be it in another case, is ambiguous: what was judged would not be what runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.errors import InputError
from keepstone.scan.images.descriptor import (
    INDEXES,
    MANIFESTS,
    Descriptor,
    parse_descriptor,
    texts,
)
from keepstone.scan.images.naming import MANIFEST_NAMES, differing_names
from keepstone.scan.rules import printable
from keepstone.scan.strictjson import read_json


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about an image that is of no file: the rule's id, and why."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: where its configuration and its layers are, the lowest first.

    `digest` is that of the manifest, or empty where the archive has none.
    """

    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    platform: str = ""
    tags: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """Several images, or indexes of more."""

    manifests: tuple[Descriptor, ...]
    problems: tuple[Problem, ...] = ()


def parse_manifest(raw: bytes, said: Descriptor) -> Manifest | Index:
    """Read the document that `said` describes, whose bytes were verified.

    Raises InputError `image.malformed`, and `image.unsupported` for what is no image.
    """
    document, problems = read_document(raw, MANIFEST_NAMES)
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise InputError("image.unsupported", "The manifest has the old schema 1, without digests.")
    own = document.get("mediaType")
    if own is not None and own != said.media_type and said.media_type:
        reason = "The manifest gives itself another type than who names it does."
        problems.append(Problem("image.ambiguous", reason))
    kind = said.media_type or own or ""
    has_list, has_layers = "manifests" in document, "layers" in document or "config" in document
    if has_list and has_layers:
        reason = "The document is an image to one reader and an index to another."
        problems.append(Problem("image.ambiguous", reason))
    if kind in INDEXES or (not kind and has_list):
        return Index(_descriptors(document.get("manifests")), tuple(problems))
    if kind not in MANIFESTS and kind:
        shown = printable(str(kind))
        raise InputError("image.unsupported", f"A manifest of the type {shown} is not known.")
    if "config" not in document:
        raise InputError("image.malformed", "The manifest names no configuration.")
    return Manifest(
        said.digest,
        str(kind),
        parse_descriptor(document["config"]),
        _descriptors(document.get("layers")),
        texts(document.get("annotations")),
        said.platform,
        problems=tuple(problems),
    )


def read_document(raw: bytes, known: frozenset[str]) -> tuple[dict[str, Any], list[Problem]]:
    """A JSON object, and what readers differ in. Raises InputError `image.malformed`.

    `known` are the names that are looked up in it: in another case they are said.
    """
    try:
        read = read_json(raw)
    except ValueError as error:
        cause = f"A document of the image is no strict JSON: {error}."
        raise InputError("image.malformed", cause) from None
    if not isinstance(read.value, dict):
        raise InputError("image.malformed", "A document of the image is no JSON object.")
    problems = [
        Problem("image.ambiguous", f"A document of the image says {printable(key, 60)!r} twice.")
        for key in read.repeated
    ]
    return read.value, [*problems, *case_problems(read.value, known)]


def case_problems(document: Any, known: frozenset[str]) -> Iterator[Problem]:
    """What readers differ in that do, or do not, tell names apart by their case."""
    for name in differing_names(document, known):
        reason = f"To some runtimes the name {printable(name, 60)!r} is another, by its case."
        yield Problem("image.ambiguous", reason)


def _descriptors(value: Any) -> tuple[Descriptor, ...]:
    if not isinstance(value, list):
        raise InputError("image.malformed", "The document has no list of what it names.")
    return tuple(parse_descriptor(item) for item in value)
