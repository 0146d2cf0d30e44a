"""Names for what has no signature of its own: texts, models of trees, programs.

The names are for people and for choosing a scanner that tries every reading itself: what a text
is called here makes nothing clean.
"""

from __future__ import annotations

import re

from keepstone.scan.text.decode import resembles_text
from keepstone.vault.load.identify import is_xgboost

# Formats that say what they are in their first bytes.
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"CBM1", "catboost"),
    (b"binf", "xgboost-binary"),
    (b"bs64", "xgboost-binary"),
    (b"\xfe\xed\xfa\xce", "macho"),
    (b"\xfe\xed\xfa\xcf", "macho"),
    (b"\xce\xfa\xed\xfe", "macho"),
    (b"\xcf\xfa\xed\xfe", "macho"),
    (b"\xca\xfe\xba\xbe", "java-or-macho"),
    (b"\x00asm", "wasm"),
    (b"MZ", "pe"),
    (b"dex\n", "dex"),
    (b"!<arch>\n", "library"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"RIFF", "riff"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"SQLite format 3\x00", "sqlite"),
    (b"%PDF-", "pdf"),
)
# UBJSON: an object whose first key has a length of one of five types.
_UBJSON = re.compile(rb"\{(?:[iU]|I\x00|l\x00\x00|L\x00\x00\x00)|\{[#$]")
_HTML = re.compile(r"<!doctype\s+html|<html[\s>]", re.IGNORECASE)
_XML = re.compile(r"<[A-Za-z_?!]")
# CPython's compiled modules: a number that grows, then a line's end.
_COMPILED = re.compile(rb"[\x00-\xff]{2}\r\n[\x00-\x03]\x00\x00\x00")


def kind_without_signature(head: bytes, whole: bool) -> str | None:
    """The name of a text or of a binary format of this room, from all of a file or its start."""
    if resembles_text(head, whole):
        return _kind_of_text(head)
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if _UBJSON.match(head):
        return "xgboost" if is_xgboost(head) else "ubjson"
    return "pyc" if _COMPILED.match(head) else None


def _kind_of_text(head: bytes) -> str:
    coding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(coding, "ignore").lstrip("\ufeff \t\r\n")
    if _HTML.match(text):
        return "html"
    if _XML.match(text):
        return "xml"
    if text.startswith("tree\nversion="):
        return "lightgbm"
    if text.startswith("#!/"):
        return "script"
    if is_xgboost(head):
        # What its loader calls it: scanner and loader must see one thing.
        return "xgboost"
    if text[:1] in "{[" and text:
        return "notebook" if '"cell_type"' in text else "json"
    return "text"
