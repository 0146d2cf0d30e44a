"""Requirements of Python packages: where an installer would take them from.

A model's requirements are installed by what loads it (MLflow, TorchServe) before anything else
runs. A name and a version go to the index that the installer is configured for; an address, a
path or another index is the file's own choice. Sources: PEP 508, pip's requirements format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.view import View

# PEP 508: a name, extras, version clauses, a marker.
_NAMED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[\w\s,.-]*\])?"
    r"\s*(?:\(?\s*(?:(?:===|==|~=|!=|<=|>=|<|>|=)\s*[\w.*+!-]+\s*,?\s*)+\)?)?(?:\s*;.*)?\Z"
)
# No environment has more; a table of numbers has.
_MAX_REQUIREMENTS = 1 << 20
_VERSIONED = re.compile(r"[\w.\]-]\s*(?:===|==|~=|!=|<=|>=|<|>)\s*\d")
_COMMIT = re.compile(r"git\+(?:https|ssh)://[^\s@]+(?:@[^\s/@]+)?[^\s@]*@[0-9a-f]{40}(?:#\S*)?\Z")
_ELSEWHERE = re.compile(
    r"^(?:\w+\+)?(?:https?|ftp|file|git|ssh|svn|hg|bzr)(?:\+\w+)?://|^file:|^git@"
)
_INDEX = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host")
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--(?:hash|config-settings|global-option|install-option)[= ]\S+")


def is_elsewhere(word: str) -> bool:
    """True where a requirement is an address rather than a name."""
    return _ELSEWHERE.search(word.strip().strip("'\"")) is not None


def resembles_requirements(text: str) -> bool:
    """True where every line of `text` is a requirement, and one at least states a version."""
    if len(text) > _MAX_REQUIREMENTS:
        return False
    versioned = False
    for line in _lines(text):
        elsewhere = is_elsewhere(line)
        if not (line.startswith("-") or elsewhere or " @ " in line or _NAMED.match(line)):
            return False
        versioned = versioned or elsewhere or _VERSIONED.search(line) is not None
    return versioned


def requirement_findings(
    view: View, lines: str | Sequence[str], inside: str | None = None
) -> Iterator[Finding]:
    """What is installed from a place of the file's own choice."""
    for line in _lines(lines) if isinstance(lines, str) else lines:
        found = _judge(line.strip())
        if found is not None:
            rule, why = found
            yield view.finding(rule, f"{why}: {printable(line.strip(), 80)}.", None, inside)


def _lines(text: str) -> Iterator[str]:
    joined = text.replace("\\\r\n", " ").replace("\\\n", " ")
    for line in joined.splitlines():
        # pip: a comment begins at the line's start or behind a space.
        bare = (_COMMENT.sub("", line) if "#" in line else line).strip()
        if bare:
            yield bare


def _judge(line: str) -> tuple[str, str] | None:
    bare = _HASH.sub("", line).strip()
    option, _, rest = bare.replace("=", " ", 1).partition(" ")
    if option in _INDEX:
        return "requirements.elsewhere", "The file chooses where packages come from"
    if option in ("-e", "--editable"):
        return "requirements.elsewhere", "A folder or address is installed as it is"
    if option in ("-r", "--requirement", "-c", "--constraint"):
        outside = re.search(r"(?:^|[\\/])\.\.(?:[\\/]|$)|^[\\/~]", rest.strip())
        if outside or is_elsewhere(rest):
            return "requirements.elsewhere", "Requirements are read from elsewhere"
        return None
    if option.startswith("--"):
        return None
    name, at, address = bare.partition(" @ ")
    target = (address if at else name).split(" ;", 1)[0].strip()
    if _COMMIT.match(target):
        return "requirements.not_judged", "A package is built from a repository"
    if is_elsewhere(target):
        return "requirements.elsewhere", "A package is installed from an address"
    if target.startswith((".", "/", "~")) or re.search(r"\.(?:whl|zip|tar\.gz)\Z", target):
        return "requirements.elsewhere", "A package is installed from a path"
    return None
