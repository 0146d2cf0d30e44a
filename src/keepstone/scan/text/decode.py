"""Text out of bytes: one reading, or none.

A file is text where it is UTF-8, or UTF-16 or UTF-32 behind a byte order mark, and holds no
control character that text does not have. What two readers could decode differently is no text.
"""

from __future__ import annotations

import codecs
import re

# Larger texts are searched, never parsed.
MAX_TEXT = 64 << 20

# RFC 3629 has no surrogates; C0 controls other than tab, line feed, form feed and carriage
# return, and escape (terminal colours in a notebook's output), stand in no text.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
# The longest mark first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: memoryview | bytes) -> str | None:
    """The text that `data` is, or None where it is not plainly one. Never raises."""
    head = bytes(data[:4])
    coding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    try:
        text = str(data, coding)
    except (UnicodeDecodeError, MemoryError):
        return None
    return None if _CONTROL.search(text) else text


def resembles_text(head: bytes, whole: bool) -> bool:
    """True where `head`, all of a file or its start, is text as far as it goes."""
    coding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if coding is None and _CONTROL_BYTES.search(head):
        return False
    try:
        # Only the last character of a start may be cut.
        text = codecs.getincrementaldecoder(coding or "utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None
