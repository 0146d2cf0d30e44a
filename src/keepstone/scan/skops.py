"""skops: an archive whose `schema.json` names every type that loading builds.

Promise: clean means that every node is of a kind and a type that the vault's loader trusts, or
that pickles of the same libraries may build, and that every other member is clean by itself.
A type of scikit-learn, SciPy or NumPy that no list holds is *not evaluated*; any other is flagged.

Source: skops/io/_utils.py and the nodes of skops/io, release 0.16.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.errors import InputError
from keepstone.scan.archive.zip import members, problems
from keepstone.scan.archive.zipdir import read_zip
from keepstone.scan.pickle.allowlist import look_up
from keepstone.scan.pickle.danger import why_dangerous
from keepstone.scan.rules import printable
from keepstone.scan.strictjson import read_json
from keepstone.scan.view import View
from keepstone.vault.load.skops import SCHEMA, nodes, trusted_nodes

# Nodes that make an object of the class they name, and nothing else.
_OBJECTS = frozenset(
    {
        *("ObjectNode", "TypeNode", "LossNode", "DTypeNode", "NdArrayNode", "TreeNode"),
        *("RandomGeneratorNode", "RandomStateNode", "SparseMatrixNode", "MaskedArrayNode"),
    }
)
_LIBRARIES = frozenset({"sklearn", "scipy", "numpy"})


def scan_skops(view: View) -> Iterator[Finding]:
    """Judge the schema's types, and every other member as a file of its own."""
    listing = read_zip(view.data)
    yield from problems(view, listing)
    yield from members(view, listing, _member)


def _member(view: View, name: str, content: memoryview) -> Iterator[Finding]:
    if name != SCHEMA:
        yield from view.inside(name, content)
        return
    try:
        schema = read_json(bytes(content))
        found = sorted(set(nodes(schema.value)))
    except (ValueError, InputError) as error:
        yield view.finding("skops.malformed", f"The schema cannot be read: {error}.", None, name)
        return
    if not found:
        yield from view.inside(name, content)
    for key in schema.repeated:
        reason = f"The schema names {printable(key)!r} twice."
        yield view.finding("config.ambiguous", reason, None, name)
    for kind, type_name in found:
        yield from _node(view, kind, type_name)


def _node(view: View, kind: str, name: str) -> Iterator[Finding]:
    # A cached node stands for one that was met before, and names no type of its own.
    if kind == "CachedNode" or f"{kind} {name}" in trusted_nodes():
        return
    module, _, last = name.rpartition(".")
    shown = f"{printable(name)} ({printable(kind, 40)})"
    if (why := why_dangerous(module, last)) is not None:
        yield view.finding("skops.dangerous_type", f"Loading builds {shown}: {why}.")
    elif kind in _OBJECTS and look_up(module, last, view.allowed) is not None:
        return
    elif kind in _OBJECTS and module.partition(".")[0] in _LIBRARIES:
        yield view.unseen(f"Loading builds {shown}, which is on no list of what is harmless.")
    else:
        yield view.finding("skops.unknown_type", f"Loading builds {shown}, which is not known.")
