"""Programs in texts that should be none: descriptions, licences, tags.

No reader of a model runs its metadata. A text there that calls an interpreter waits for somebody
who does, and no honest one has a use for it.
"""

from __future__ import annotations

import base64
import binascii
import re

from keepstone.scan.allowance import Allowance
from keepstone.scan.pickle.opcodes import resembles_importing_pickle
from keepstone.scan.templates import template_findings

_SPEAKS = re.compile(
    r"__import__\s*\(|\bos\s*\.\s*(system|popen|exec[lv]p?e?|spawn[lv]p?e?)\s*\("
    r"|\bsubprocess\s*\.\s*(run|Popen|call|check_call|check_output|getoutput)\s*\("
    r"|(?<![\w.])(exec|eval)\s*\(\s*(compile|base64|bytes|zlib|open|input|['\"]|__)"
    r"|\b(pickle|marshal|cloudpickle|dill)\s*\.\s*loads?\s*\(|<\s*script\b|\bjavascript\s*:"
    r"|\bpowershell(\.exe)?\s+-|\$\{jndi:|\b(curl|wget)\b[^\n|]{1,200}\|\s*(ba|z)?sh\b"
    r"|/dev/tcp/\d",
    re.IGNORECASE,
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]{16,}={0,2}\s*")
_LONGEST = 1 << 20


def program_in(text: str) -> str:
    """What kind of program `text` holds, in words; empty where it holds none."""
    if (found := _SPEAKS.search(text)) is not None:
        return f"a call ({found.group()[:40].strip()!r})"
    if ("{{" in text or "{%" in text) and any(
        problem.rule in ("template.escape", "template.loads") for problem in template_findings(text)
    ):
        return "a template that reaches for Python's internals"
    if _holds_pickle(text):
        return "a pickle"
    return ""


def _holds_pickle(text: str) -> bool:
    if len(text) < 16 or len(text) > _LONGEST:
        return False
    raws = [text.encode("utf-8", "surrogatepass")]
    if text.isascii() is False and all(ord(character) < 256 for character in text):
        raws.append(text.encode("latin-1"))
    if _BASE64.fullmatch(text) is not None:
        try:
            raws = [base64.b64decode(text.translate({45: 43, 95: 47}) + "===")]
        except (binascii.Error, ValueError):
            return False
        # In text form a pickle ends with STOP; base64 of anything else rarely begins as one.
        if raws[0][:1] != b"\x80":
            return False
    elif not text.endswith("."):
        return False
    return any(
        resembles_importing_pickle(memoryview(raw), Allowance(opcodes=50_000)) for raw in raws
    )
