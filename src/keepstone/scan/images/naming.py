"""Names in an image's documents that readers take differently.

Runtimes are written in Go, whose reader of JSON takes `Layers` for `layers`, and of the two the
last; others tell them apart. A document that leans on it shows one image to a checker and another
to a runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# What is judged by, or chosen by, in each kind of document.
MANIFEST_NAMES = frozenset(
    {
        *("schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "annotations"),
        *("digest", "size", "urls", "platform", "os", "architecture", "variant"),
    }
)
CONFIG_NAMES = frozenset(
    {
        *("os", "architecture", "variant", "rootfs", "diff_ids", "history", "config", "User"),
        *("Env", "Labels", "Entrypoint", "Cmd", "Shell", "OnBuild", "Healthcheck", "Test"),
    }
)
DOCKER_NAMES = frozenset({"Config", "Layers", "RepoTags"})
# What lies in these has names that the image chose: there, case tells them apart for everybody.
_FREE = frozenset({"annotations", "labels", "exposedports", "volumes", "layersources"})
_KEPT = 10


def differing_names(document: Any, known: frozenset[str]) -> tuple[str, ...]:
    """The names that one reader takes for another, or for one of `known` (the first ten)."""
    meant = {name.casefold(): name for name in known}
    found: dict[str, None] = {}
    for names in _objects(document):
        seen: set[str] = set()
        for name in names:
            folded = name.casefold()
            if folded in seen or meant.get(folded, name) != name:
                found[name] = None
                if len(found) == _KEPT:
                    return tuple(found)
            seen.add(folded)
    return tuple(found)


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """Every object whose names the specification gives, however deep."""
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            yield value
            pending += (inner for name, inner in value.items() if name.casefold() not in _FREE)
