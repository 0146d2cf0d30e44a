"""An image's configuration: whom it runs as, and what its settings and its history give away.

Source: OCI image spec 1.1, config.md; runc's libcontainer/user for what a user's name means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.core.finding import Finding
from keepstone.errors import InputError
from keepstone.scan.images.descriptor import check_digest, platform_name, texts
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.manifest import Problem, read_document
from keepstone.scan.images.naming import CONFIG_NAMES
from keepstone.scan.rules import printable
from keepstone.scan.secrets.look import find_in_environment, find_secrets

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
_NUMBER = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)
# Runtimes count users in 31 bits; beyond, some of them went round to 0 (CVE-2024-40635).
_MAX_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Config:
    """What is judged of a configuration. `variables` are those of the environment, `settings`
    other texts by what they are: (where, text)."""

    platform: str
    user: str
    diff_ids: tuple[str, ...]
    variables: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    labels: Mapping[str, str]
    problems: tuple[Problem, ...] = ()


def parse_config(raw: bytes, limits: Limits) -> Config:
    """Read a configuration, whose bytes were verified. Raises InputError `image.malformed`."""
    document, problems = read_document(raw, CONFIG_NAMES)
    rootfs = document.get("rootfs")
    listed = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(listed, list):
        raise InputError("image.malformed", "The configuration does not say what its layers hold.")
    inner = document.get("config")
    own = inner if isinstance(inner, dict) else {}
    user = own.get("User") or ""
    if not isinstance(user, str):
        raise InputError("image.malformed", "The configuration's user is no text.")
    return Config(
        platform_name(document.get("os"), document.get("architecture"), document.get("variant")),
        user,
        tuple(check_digest(one) for one in listed),
        tuple(_list(own.get("Env"))),
        tuple(_settings(document, own, limits, problems)),
        texts(own.get("Labels")),
        tuple(problems),
    )


def _settings(
    document: dict[str, Any], own: dict[str, Any], limits: Limits, problems: list[Problem]
) -> Iterator[tuple[str, str]]:
    """Every text that may hold a secret, with what it is."""
    for key, value in texts(own.get("Labels")).items():
        yield f"LABEL {key}", f"{key}={value}"
    for key in ("Entrypoint", "Cmd", "Shell", "OnBuild"):
        if parts := list(_list(own.get(key))):
            yield key.upper(), " ".join(parts)
    health = own.get("Healthcheck")
    if isinstance(health, dict) and (parts := list(_list(health.get("Test")))):
        yield "HEALTHCHECK", " ".join(parts)
    history = document.get("history") or []
    if not isinstance(history, list) or len(history) > limits.history:
        reason = "The history is no list, or longer than the limit: it was not looked at."
        problems.append(Problem("image.not_evaluated", reason))
        return
    for number, step in enumerate(history, 1):
        for key, value in texts(step).items():
            yield f"history {number} ({key})", value


def _list(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, str))


def setting_secrets(config: Config) -> Iterator[Finding]:
    """Secrets in the settings, and what of them was not looked at."""
    found = [*find_in_environment(config.variables, "ENV")]
    for where, text in config.settings:
        found += find_secrets(text.encode("utf-8", "replace"), printable(where, 200))
    yield from (item.finding for item in found if item.counts or not item.is_secret)


def user_problem(user: str, passwd: bytes | None) -> Problem | None:
    """Why a container of this user would run as root, or why nobody can say; else None.

    `passwd` is the image's `/etc/passwd`, None where there is none. A name that it has counts
    before a number, and any reading that is root is: of two rows of a name too.
    """
    name = user.partition(":")[0]
    shown = printable(name, 60)
    if not name:
        return Problem("image.root", "The image names no user: it runs as root.")
    ids = [_number(row[2]) or 0 for row in _rows(passwd) if row[0] == name]
    if 0 in ids:
        return Problem("image.root", f"The user {shown} has the number 0: the image runs as root.")
    if not all(0 < one <= _MAX_ID for one in ids):
        return Problem("image.root", f"The user {shown} has a number that runtimes do not know.")
    number = _number(name)
    if number == 0:
        return Problem("image.root", f"The user {shown} is root.")
    if number is not None:
        if 0 < number <= _MAX_ID:
            return None
        reason = f"The user {shown} is no number that runtimes know: some make it root."
        return Problem("image.root", reason)
    if name == "root":
        return Problem("image.root", "The image runs as root.")
    if not ids:
        return Problem("image.not_evaluated", f"The image does not say who the user {shown} is.")
    return None


def _number(text: str) -> int | None:
    """The number that runtimes read, however many zeros it has in front; None where it is none."""
    if _NUMBER.match(text) is None:
        return None
    digits = text.lstrip("+-").lstrip("0")[:20] or "0"
    return -int(digits) if text.startswith("-") else int(digits)


def _rows(passwd: bytes | None) -> Iterator[list[str]]:
    """The rows as runtimes take them: what is missing in one, or is no number, is 0."""
    for line in (passwd or b"").decode("utf-8", "replace").split("\n"):
        fields = [field.strip() for field in line.split(":")]
        yield fields + ["0"] * (4 - len(fields))


def base_problem(annotations: Mapping[str, str], labels: Mapping[str, str]) -> Problem | None:
    """What is not known of the image that this one was built on.

    Only an annotation says it: a configuration's history names the commands of a build and not
    its base. What it says is the builder's word; nobody can see it in the layers.
    """
    said = {**labels, **annotations}
    name, digest = said.get(BASE_NAME, ""), said.get(BASE_DIGEST, "")
    try:
        check_digest(digest)
    except InputError:
        if name or digest:
            reason = f"The image is built on {printable(name, 120) or 'a base'}, by no digest."
            return Problem("image.base_by_name", reason)
        if BASE_NAME in said and BASE_DIGEST in said:
            # Said, and empty: buildah writes so where it starts from nothing.
            return None
        return Problem("image.base_unknown", "No annotation says what the image was built on.")
    return None
