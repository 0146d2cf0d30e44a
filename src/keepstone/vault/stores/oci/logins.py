"""Who we are to which registry: one login per host, from the file that docker and podman keep.

Promise: a login is found by the host it was made for and by no other. It never lies in a
workspace. Programs that hand out logins (`credsStore`, `credHelpers`) are not run.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError, OperationalError

_LIMIT = 1 << 20
# Docker's own registry is one party under four names.
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "auth.docker.io"})


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        pair = f"{self.user}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


def login_for(logins: Mapping[str, Login], host: str) -> Login | None:
    """The login made for `host` (with its port, as references write it)."""
    if is_docker_hub(host):
        return next((logins[name] for name in _DOCKER_HUB if name in logins), None)
    return logins.get(host)


def is_docker_hub(host: str) -> bool:
    return host in _DOCKER_HUB


def find_logins(environment: Mapping[str, str]) -> dict[str, Login]:
    """The logins by host, from the file that REGISTRY_AUTH_FILE or DOCKER_CONFIG names.

    Else from `~/.docker/config.json`; none where there is no file. Raises InputError
    `oci.bad_logins`, OperationalError `oci.logins_unreadable`.
    """
    if chosen := environment.get("REGISTRY_AUTH_FILE"):
        path = Path(chosen)
    elif folder := environment.get("DOCKER_CONFIG"):
        path = Path(folder) / "config.json"
    else:
        path = Path(environment.get("HOME") or Path.home()) / ".docker" / "config.json"
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except FileNotFoundError:
        if chosen:
            raise OperationalError(
                "oci.logins_unreadable", f"{path} does not exist.", "Mend REGISTRY_AUTH_FILE."
            ) from None
        return {}
    except OSError as error:
        raise OperationalError(
            "oci.logins_unreadable", f"Cannot read {path}: {error.strerror}."
        ) from error
    return parse_logins(data)


def parse_logins(data: bytes) -> dict[str, Login]:
    """Read docker's `config.json`. Raises InputError `oci.bad_logins`."""
    try:
        document: Any = parse_json(data, limit=_LIMIT)
    except InputError as error:
        raise _bad("it is not JSON") from error
    entries = document.get("auths", {}) if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise _bad("it has no `auths`")
    found = {}
    for key, entry in entries.items():
        text = entry.get("auth") if isinstance(entry, dict) else None
        # An entry without one has its secret in a program that we do not run.
        if isinstance(text, str) and text:
            found[_host_of(key)] = _login(text)
    return found


def _host_of(key: str) -> str:
    """Old entries are whole addresses: `https://index.docker.io/v1/`."""
    return key.partition("://")[2].partition("/")[0].lower() if "://" in key else key.lower()


def _login(text: str) -> Login:
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _bad("a login in it cannot be read") from error
    if not colon or not user:
        raise _bad("a login in it has no password")
    return Login(user, password)


def _bad(why: str) -> InputError:
    return InputError(
        "oci.bad_logins",
        f"The file with the logins to registries cannot be used: {why}.",
        "Log in again with docker, podman or skopeo.",
    )
