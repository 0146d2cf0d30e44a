"""HDF5: its structure, and the Keras configuration in its attributes.

Promise: clean means that the whole structure was read, nothing leads out of the file, and every
text in an attribute is either no configuration or one that names Keras' own building blocks.
Native HDF5 is never asked: the file is an attacker's.

Source: `keras.src.legacy.saving.legacy_h5_format`.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.hdf5.file import Hdf5, Held
from keepstone.scan.keras.config import judge_text
from keepstone.scan.pickle.opcodes import resembles_importing_pickle
from keepstone.scan.rules import printable
from keepstone.scan.texts import program_in
from keepstone.scan.view import View

_CONFIGS = frozenset({"model_config", "training_config"})


def scan_hdf5(view: View) -> Iterator[Finding]:
    """Judge one HDF5 file. No finding means clean."""
    file = Hdf5(view.data)
    for held in file:
        yield from _attribute(view, held)
    for trouble in file.troubles:
        offset = trouble.offset if view.member is None else None
        inside = None if trouble.path == "/" else printable(trouble.path, 200)
        yield view.finding(trouble.rule, printable(trouble.reason, 200), offset, inside)


def _attribute(view: View, held: Held) -> Iterator[Finding]:
    name = held.attribute.name
    place = f"{held.path.rstrip('/')}@{name}"
    # PyTables keeps objects as pickles, and opens them as it reads.
    if name == "PSEUDOATOM" and b"object" in held.attribute.texts:
        yield view.unseen("The data are pickles, which were not looked at.", place)
    if len(held.attribute.texts) > 1:
        text = b"\n".join(held.attribute.texts[:100_000])
        if what := program_in(text.decode("utf-8", "replace")):
            yield view.finding("metadata.program", f"It holds {what}.", None, place)
    for raw in held.attribute.texts[:1000]:
        text = raw.rstrip(b"\x00")
        if name in _CONFIGS or _is_config(text):
            yield from judge_text(view, text, place)
        elif raw[:1] in (b"\x80", b"(", b"c", b"]", b"}") and resembles_importing_pickle(
            memoryview(raw), view.allowance
        ):
            yield from view.inside(place, memoryview(raw))
        elif len(held.attribute.texts) == 1 and (
            what := program_in(text.decode("utf-8", "replace"))
        ):
            yield view.finding("metadata.program", f"It holds {what}.", None, place)


def _is_config(text: bytes) -> bool:
    return text.lstrip()[:1] in (b"{", b"[") and b"class_name" in text
