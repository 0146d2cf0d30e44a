"""How a store is written down: `s3://bucket/prefix?region=..`, `oci://host/repository`.

Promise: an address names a place and how blobs are kept there, and nothing that opens it: one
with a user, a password or an unknown setting is refused. What was read prints as what is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from keepstone.errors import InputError
from keepstone.vault.stores.oci.reference import Reference, is_host, is_loopback

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,32}\Z", re.ASCII)
_DAYS = re.compile(r"([1-9][0-9]{0,4})d\Z", re.ASCII)
_LONGEST = 1024
_LONGEST_DAYS = 36_500
_S3_SETTINGS = frozenset({"region", "endpoint", "lock", "retain"})
Lock = Literal["governance", "compliance"]


@dataclass(frozen=True, slots=True)
class S3Address:
    """A bucket, a prefix in it, and how long each blob is locked, if it is."""

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    lock: Lock | None = None
    retain_days: int | None = None

    def __str__(self) -> str:
        settings = {
            "region": self.region,
            "endpoint": self.endpoint,
            "lock": self.lock,
            "retain": None if self.retain_days is None else f"{self.retain_days}d",
        }
        query = urlencode({k: v for k, v in settings.items() if v}, safe=":/[]", quote_via=quote)
        path = f"/{self.prefix}" if self.prefix else ""
        return f"s3://{self.bucket}{path}{'?' if query else ''}{query}"


@dataclass(frozen=True, slots=True)
class OciAddress:
    """A repository of a registry."""

    repository: Reference

    def __str__(self) -> str:
        return f"oci://{self.repository}"


StoreAddress = S3Address | OciAddress


def parse_store_address(text: str) -> StoreAddress:
    """Raises InputError `store.bad_address`."""
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise _bad("it is not one line of plain ASCII")
    if text.startswith("oci://"):
        return _oci(text.removeprefix("oci://"))
    if text.startswith("s3://"):
        return _s3(text)
    raise _bad("it begins neither with s3:// nor with oci://")


def _oci(text: str) -> OciAddress:
    if "?" in text or "#" in text:
        raise _bad("an OCI store has no settings")
    try:
        reference = Reference.parse(text)
    except InputError as error:
        raise _bad(error.cause) from error
    if reference.tag or reference.digest:
        raise _bad("it names one thing in a repository, not the repository")
    return OciAddress(reference)


def _s3(text: str) -> S3Address:
    try:
        parts = urlsplit(text)
        pairs = parse_qsl(
            parts.query,
            keep_blank_values=True,
            strict_parsing=bool(parts.query),
            max_num_fields=8,
        )
    except ValueError as error:
        raise _bad("it cannot be read") from error
    settings = dict(pairs)
    unknown = settings.keys() - _S3_SETTINGS
    if parts.fragment or "@" in parts.netloc or not _BUCKET.match(parts.netloc):
        raise _bad("its bucket is none")
    # No credentials either: they come from AWS's own settings and nowhere else.
    if unknown or len(settings) != len(pairs):
        raise _bad(f"its settings are not all of {', '.join(sorted(_S3_SETTINGS))}, each once")
    prefix = parts.path.strip("/")
    if prefix and not all(_SEGMENT.match(one) for one in prefix.split("/")):
        raise _bad("its prefix holds something else than letters, digits, `_`, `-` and `.`")
    region, lock = settings.get("region"), settings.get("lock")
    if region is not None and not _REGION.match(region):
        raise _bad("its region is none")
    days = _days(settings.get("retain"))
    if (lock is None) != (days is None):
        raise _bad("`lock` and `retain` go together")
    match lock:
        case None | "governance" | "compliance":
            endpoint = _endpoint(settings.get("endpoint"))
            return S3Address(parts.netloc, prefix, region, endpoint, lock, days)
    raise _bad("`lock` is neither governance nor compliance")


def _days(text: str | None) -> int | None:
    if text is None:
        return None
    found = _DAYS.match(text)
    if found is None or int(found[1]) > _LONGEST_DAYS:
        raise _bad("`retain` is not a number of days such as 30d")
    return int(found[1])


def _endpoint(text: str | None) -> str | None:
    if text is None:
        return None
    scheme, separator, host = text.rstrip("/").partition("://")
    if not separator or not is_host(host):
        raise _bad("its endpoint is not https://HOST[:PORT]")
    if scheme != "https" and not (scheme == "http" and is_loopback(host)):
        raise _bad("its endpoint has no TLS, which only this machine itself needs not")
    return f"{scheme}://{host}"


def _bad(why: str) -> InputError:
    # The address itself is not repeated: somebody may have put a secret into it.
    return InputError(
        "store.bad_address",
        f"The address names no store: {why}.",
        "Write s3://BUCKET/PREFIX?region=REGION or oci://HOST/REPOSITORY.",
    )
