"""Fetch one file over HTTP(S) from a server that may answer slowly, wrongly, half or for ever.

The deadline covers everything from the first name look-up to the last byte, so that no peer can
hold it by dripping. What is fetched goes into the file given and is judged by the caller.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from keepstone.core.digest import Digest
from keepstone.errors import DeniedError, InputError, OperationalError
from keepstone.files import storage_errors
from keepstone.scan.rules import printable

if TYPE_CHECKING:
    import httpx

_TRY_LATER = "What was there before still stands. Try again, or look at the server."


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The most that one file may cost; `silence` is the longest wait for the next byte."""

    size: int = 4 << 30
    seconds: float = 1800.0
    silence: float = 30.0
    redirects: int = 4


@dataclass(frozen=True, slots=True)
class Known:
    """What the server called the copy that we have."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: its digest and size, and what the server calls it."""

    sha256: Digest
    size: int
    called: Known


def fetch(
    url: str,
    target: Path,
    *,
    known: Known | None = None,
    limits: FetchLimits | None = None,
    insecure_http: bool = False,
) -> Fetched | None:
    """Fetch `url` into `target`; None where the server says that it is still what is `known`.

    Raises DeniedError `vulndb.insecure_url` for plain HTTP to another machine (unless allowed)
    and for a redirect to another scheme; InputError `vulndb.no_such_file` for a 404;
    OperationalError `extra.http`, `vulndb.unreachable`, `vulndb.bad_answer`, `vulndb.too_slow`,
    `vulndb.too_large`, `disk.full`, `file.unwritable`.
    """
    try:
        import httpx
    except ImportError as error:
        raise OperationalError(
            "extra.http",
            "Fetching a database needs the extra `http`, which is not installed.",
            "pip install 'keepstone[http]', or copy the folder here from a machine that has it.",
        ) from error
    limits = limits or FetchLimits()
    check_url(url, insecure_http)
    job = _Job(target, known or Known(), limits, insecure_http)
    try:
        return asyncio.run(job.run(url))
    except TimeoutError as error:
        raise _slow(url, limits) from error
    except httpx.TimeoutException as error:
        raise _slow(url, limits) from error
    except httpx.InvalidURL as error:
        raise InputError("vulndb.url", f"{printable(url)} is not an address.") from error
    except httpx.HTTPError as error:
        why = printable(str(error) or type(error).__name__, 200)
        raise OperationalError(
            "vulndb.unreachable", f"{printable(url)} could not be fetched: {why}.", _TRY_LATER
        ) from error


def check_url(url: str, insecure_http: bool) -> None:
    """Refuse what is not HTTPS, but for HTTP to this machine, or to any where that is allowed.

    Raises InputError `vulndb.url`, DeniedError `vulndb.insecure_url`.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise InputError(
            "vulndb.url",
            f"{printable(url)!r} is not an http or https address without a user.",
        )
    if parts.scheme == "http" and not insecure_http and not _is_loopback(host):
        raise DeniedError(
            "vulndb.insecure_url",
            f"{printable(url)} is plain HTTP: anybody on the way could change the database.",
            "Use https, or say --insecure-http.",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _slow(url: str, limits: FetchLimits) -> OperationalError:
    return OperationalError(
        "vulndb.too_slow",
        f"{printable(url)} took longer than {limits.seconds:g} s, or was silent for"
        f" {limits.silence:g} s.",
        _TRY_LATER,
    )


@dataclass(slots=True)
class _Job:
    """One file under way."""

    target: Path
    known: Known
    limits: FetchLimits
    insecure_http: bool

    async def run(self, url: str) -> Fetched | None:
        import httpx

        async with (
            asyncio.timeout(self.limits.seconds),
            httpx.AsyncClient(timeout=self.limits.silence, follow_redirects=False) as client,
        ):
            for _ in range(self.limits.redirects + 1):
                async with client.stream("GET", url, headers=self._headers()) as answer:
                    if not answer.has_redirect_location:
                        return await self._take(url, answer)
                    url = self._next(url, answer.headers["location"])
        raise _bad_answer(url, f"it redirects more than {self.limits.redirects} times")

    def _headers(self) -> dict[str, str]:
        # Compressed on the way, a few bytes could become anything: as it is, or not at all.
        headers = {"Accept-Encoding": "identity", "User-Agent": "keepstone"}
        if self.known.etag is not None:
            headers["If-None-Match"] = self.known.etag
        if self.known.last_modified is not None:
            headers["If-Modified-Since"] = self.known.last_modified
        return headers

    def _next(self, url: str, location: str) -> str:
        try:
            there = urljoin(url, location)
        except ValueError:
            there = location
        check_url(there, self.insecure_http)
        if urlsplit(there).scheme != urlsplit(url).scheme:
            raise DeniedError(
                "vulndb.insecure_url",
                f"{printable(url)} redirects to another scheme: {printable(there)}.",
                "Give the address that it should come from, with --from.",
            )
        return there

    async def _take(self, url: str, answer: httpx.Response) -> Fetched | None:
        if answer.status_code == 304 and self.known != Known():
            return None
        if answer.status_code == 404:
            raise InputError(
                "vulndb.no_such_file",
                f"{printable(url)} does not exist.",
                "Check the ecosystem's name, its letter case too, and --from.",
            )
        if answer.status_code != 200:
            raise _bad_answer(url, f"it answers {answer.status_code}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise _bad_answer(url, "it sends the file encoded, which was not asked for")
        self._check_size(url, _declared(answer))
        hasher, size = hashlib.sha256(), 0
        with storage_errors(self.target), self.target.open("xb") as file:
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                self._check_size(url, size)
                hasher.update(chunk)
                file.write(chunk)
        called = Known(_header(answer, "etag"), _header(answer, "last-modified"))
        return Fetched(Digest(hasher.hexdigest()), size, called)

    def _check_size(self, url: str, size: int) -> None:
        if size > self.limits.size:
            raise OperationalError(
                "vulndb.too_large",
                f"{printable(url)} is larger than {self.limits.size} bytes.",
                "Look at what the server sends.",
            )


def _declared(answer: httpx.Response) -> int:
    text = answer.headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _header(answer: httpx.Response, name: str) -> str | None:
    """A validator to be sent back as it came; one that cannot be kept is as good as none."""
    value = answer.headers.get(name)
    keeps = value is not None and 0 < len(value) <= 256 and value.isascii() and value.isprintable()
    return value if keeps else None


def _bad_answer(url: str, why: str) -> OperationalError:
    return OperationalError(
        "vulndb.bad_answer", f"{printable(url)} cannot be used: {why}.", _TRY_LATER
    )
