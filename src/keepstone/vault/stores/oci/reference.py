"""What a reference to something in a registry means: `host[:port]/repository[:tag][@digest]`.

Promise: what parses names one host and one repository and nothing else: no user, no query, no
step out of the repository's path. The host is always written out; there is no default one.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from keepstone.core.digest import Digest
from keepstone.errors import InputError

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])(?::[0-9]{{1,5}})?\Z", re.ASCII
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
_LONGEST = 255
# The name that people use, and the host that answers for it.
_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository on a host, and what is meant in it: a tag, a digest, or both."""

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises InputError `oci.bad_reference`."""
        rest, at, digest = text.partition("@")
        host, slash, path = rest.partition("/")
        repository, colon, tag = path.partition(":")
        if not slash or not ("." in host or ":" in host or host.lower() == "localhost"):
            raise _bad(text, "it does not begin with a host and a slash")
        host = host.lower()
        if not is_host(host):
            raise _bad(text, "its host is none")
        if len(repository) > _LONGEST or not _REPOSITORY.match(repository):
            raise _bad(text, "its repository is none")
        if colon and not is_tag(tag):
            raise _bad(text, "its tag is none")
        if at and not digest.startswith("sha256:"):
            raise _bad(text, "its digest is not `sha256:` and 64 hex digits")
        try:
            return cls(host, repository, tag or None, Digest.parse(digest) if at else None)
        except InputError as error:
            raise _bad(text, "its digest is not `sha256:` and 64 hex digits") from error

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"

    @property
    def api_host(self) -> str:
        """The host and port that answer for this reference."""
        return _DOCKER_HUB.get(self.host, self.host)

    @property
    def named(self) -> str:
        """What a request for its manifest names: the digest where there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag or "latest"

    def at(self, digest: Digest) -> Reference:
        """The same repository, and this content in it."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> Reference:
        """The same repository, and what the tag points at. Raises `oci.bad_reference`."""
        if not is_tag(tag):
            raise _bad(tag, "it is no tag")
        return replace(self, tag=tag, digest=None)


def is_tag(text: str) -> bool:
    return bool(_TAG.match(text))


def is_host(text: str) -> bool:
    """Whether `text` is `host[:port]` in lower case and nothing more."""
    if len(text) > _LONGEST or not _HOST.match(text):
        return False
    name, port = split_host(text)
    if name.startswith("["):
        try:
            ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return False
    return port is None or 0 < port < 1 << 16


def split_host(text: str) -> tuple[str, int | None]:
    """The name (an IPv6 address keeps its brackets) and the port, if one is written."""
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, None
    return name, int(port)


def is_loopback(host: str) -> bool:
    """Whether this is this machine itself. A name that merely resolves to it is not."""
    name, _ = split_host(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _bad(text: str, why: str) -> InputError:
    return InputError(
        "oci.bad_reference",
        f"{text[:120]!r} names nothing in a registry: {why}.",
        "Write HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST], in lower case.",
    )
