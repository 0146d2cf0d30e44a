"""The registry itself: manifests, blobs, tags, referrers, each verified before it is believed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.vault.stores.oci.logins import Login, find_logins
from keepstone.vault.stores.oci.manifest import (
    ACCEPTED,
    EMPTY_CONFIG,
    EMPTY_CONTENT,
    IMAGE_INDEX,
    Descriptor,
    Manifest,
    malformed,
    parse_manifest,
)
from keepstone.vault.stores.oci.reference import Reference, is_loopback, is_tag
from keepstone.vault.stores.oci.request import Ask, Limits
from keepstone.vault.stores.oci.upload import Upload
from keepstone.vault.stores.oci.wire import Wire

if TYPE_CHECKING:
    import httpx

BytesSink = Callable[[bytes], object]

_NEXT = re.compile(r'\s*<([^<>]*)>\s*;\s*rel\s*=\s*"?next"?', re.ASCII)


def open_registry(environment: Mapping[str, str], limits: Limits | None = None) -> Registry:
    """A client with the logins that `find_logins` finds. Raises as that, and `extra.http`."""
    return Registry(find_logins(environment), limits)


class Registry:
    """A client of every registry that a reference names. Any thread may use it; close it.

    `loopback_tls` asks this machine's own registries with TLS too. Every method raises
    OperationalError `oci.unreachable`, `oci.timeout`, `oci.truncated`, `oci.busy`, `oci.denied`,
    `oci.failed`, `oci.redirect`, `oci.insecure`, and VerificationError `oci.malformed`.
    """

    def __init__(
        self,
        logins: Mapping[str, Login] | None = None,
        limits: Limits | None = None,
        *,
        loopback_tls: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        self._wire = Wire(logins or {}, self.limits)
        self._loopback_tls = loopback_tls

    def close(self) -> None:
        self._wire.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What is there

    def manifest(self, reference: Reference) -> Manifest:
        """The manifest or index that `reference` names (`latest`, where it names none).

        What comes back hashes to the digest that was asked for, and to the one that the server
        told. Raises InputError `oci.missing`, `oci.too_large`; VerificationError
        `oci.wrong_digest`.
        """
        headers = {"Accept": ", ".join(ACCEPTED)}
        with self._wire.ask(self._pull(reference, f"manifests/{reference.named}", headers)) as got:
            self._require(got, {200}, str(reference))
            data = self._wire.content(got, self.limits.manifest_bytes)
            kind = got.headers.get("Content-Type", "").split(";")[0].strip().lower()
            told = got.headers.get("Docker-Content-Digest")
        for expected in (str(reference.digest) if reference.digest else None, told):
            if expected is not None and expected != str(Digest.of(data)):
                raise _wrong_digest(str(reference))
        return parse_manifest(data, kind or None)

    def find(self, reference: Reference) -> Digest | None:
        """The digest that the server says `reference` has now, or None where there is nothing.

        Nothing is verified: ask for the manifest under the digest before you rest on it.
        """
        headers = {"Accept": ", ".join(ACCEPTED)}
        ask = self._pull(reference, f"manifests/{reference.named}", headers, method="HEAD")
        with self._wire.ask(ask) as got:
            if got.status_code == 404:
                return None
            self._require(got, {200}, str(reference))
            told = got.headers.get("Docker-Content-Digest", "")
        try:
            if told.startswith("sha256:"):
                return Digest.parse(told)
        except InputError:
            pass
        # The header is not an obligation of every server.
        return self.manifest(reference).digest

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the server says that the repository holds this blob; nothing is verified."""
        with self._wire.ask(
            self._pull(reference, f"blobs/{digest}", method="HEAD", follow=True)
        ) as got:
            if got.status_code == 404:
                return False
            self._require(got, {200}, f"blob {digest}")
            return True

    def blob(
        self,
        reference: Reference,
        digest: Digest,
        sink: BytesSink,
        *,
        size: int | None = None,
        limit: int = 1 << 38,
    ) -> int:
        """Give a blob of the repository to `sink`, piece by piece; return its size.

        Only a return says that the pieces were what `digest` (and `size`, where it is known)
        says: throw away what came before when this raises. Raises InputError `oci.missing`,
        `oci.too_large`; VerificationError `oci.wrong_digest`, `oci.wrong_size`.
        """
        total = 0
        with self.stream(reference, digest, size=size, limit=limit) as pieces:
            for piece in pieces:
                sink(piece)
                total += len(piece)
        return total

    @contextmanager
    def stream(
        self,
        reference: Reference,
        digest: Digest,
        *,
        size: int | None = None,
        limit: int = 1 << 38,
    ) -> Iterator[Iterator[bytes]]:
        """As `blob`, for who wants to ask for each piece: the last `next` says that all is well."""
        ask = self._pull(reference, f"blobs/{digest}", follow=True)
        if size is not None and size > limit:
            raise InputError(
                "oci.too_large", f"The blob {digest} has {size} bytes, beyond {limit}."
            )
        with self._wire.ask(ask) as got:
            self._require(got, {200}, f"blob {digest}")
            yield self._verified(got, digest, size, limit)

    def _verified(
        self, got: httpx.Response, digest: Digest, size: int | None, limit: int
    ) -> Iterator[bytes]:
        told = got.headers.get("Content-Length", "")
        if size is not None and told.isdecimal() and int(told) != size:
            raise _wrong_size(digest, size)
        found, total = hashlib.sha256(), 0
        for piece in self._wire.pieces(got, limit):
            total += len(piece)
            if size is not None and total > size:
                raise _wrong_size(digest, size)
            found.update(piece)
            yield piece
        if size not in (None, total):
            raise _wrong_size(digest, size)
        if found.hexdigest() != digest.hex:
            raise _wrong_digest(f"blob {digest}")

    def tags(self, reference: Reference) -> list[str]:
        """Every tag of the repository, sorted; none where the server knows no such repository."""
        found: set[str] = set()
        path, known = "tags/list?n=1000", set[str]()
        # A page that comes again would go on for ever; half a list must not read as a whole one.
        while path not in known:
            known.add(path)
            with self._wire.ask(self._pull(reference, path)) as got:
                if got.status_code == 404:
                    return sorted(found)
                self._require(got, {200}, f"tags of {reference.repository}")
                listed = self._wire.document(got, self.limits.listing_bytes).get("tags") or []
                further = _NEXT.match(got.headers.get("Link", ""))
            if not isinstance(listed, list) or not all(
                isinstance(tag, str) and is_tag(tag) for tag in listed
            ):
                raise malformed("a tag in its list is none")
            found.update(listed)
            if len(found) > self.limits.tags or len(known) > self.limits.tags:
                raise InputError(
                    "oci.too_large", f"The repository has more than {self.limits.tags} tags."
                )
            if further is None:
                return sorted(found)
            path = self._within(reference, further[1], "tags/list")
        raise malformed("its list of tags goes on with what came before")

    def referrers(
        self, reference: Reference, digest: Digest, artifact_type: str | None = None
    ) -> list[Descriptor]:
        """What in the repository says that it is about `digest` (signatures, for one).

        By the API for it, else by the tag that stands in for it (Distribution Specification,
        "Unavailable Referrers API"). What is listed is verified when it is fetched, not here.
        """
        with self._wire.ask(self._pull(reference, f"referrers/{digest}")) as got:
            if got.status_code == 200:
                data = self._wire.content(got, self.limits.listing_bytes)
                found = parse_manifest(data, IMAGE_INDEX).manifests
            elif got.status_code in (400, 404, 405):
                found = self._tagged_referrers(reference, digest)
            else:
                raise self._wire.refused(got, f"referrers of {digest}")
        return [one for one in found if artifact_type in (None, one.artifact_type)]

    def _tagged_referrers(self, reference: Reference, digest: Digest) -> tuple[Descriptor, ...]:
        try:
            index = self.manifest(reference.tagged(_referrers_tag(digest)))
        except InputError as error:
            if error.code == "oci.missing":
                return ()
            raise
        if not index.is_index:
            raise malformed("what stands in for its referrers is no index")
        return index.manifests

    # What is put there

    def push(self, reference: Reference, data: bytes, media_type: str) -> Descriptor:
        """Put a small content into the repository as a blob, unless it is there."""
        described = Descriptor(media_type, Digest.of(data), len(data))
        if not self.has_blob(reference, described.digest):
            with self.upload(reference) as upload:
                upload.write(memoryview(data))
                upload.finish()
        return described

    @contextmanager
    def upload(self, reference: Reference) -> Iterator[Upload]:
        """Push a blob whose digest is known only at its end; given up unless it is finished."""
        upload = Upload(self._wire, self._push(reference, "POST", "blobs/uploads/"))
        try:
            yield upload
        except BaseException:
            upload.give_up()
            raise
        if not upload.finished:
            upload.give_up()

    def push_manifest(
        self, reference: Reference, document: Mapping[str, Any], *, tag: str | None = None
    ) -> Descriptor:
        """Put a manifest, under its digest and, where one is given, `tag`; now it is visible.

        One with a `subject` is entered into what stands in for the referrers API, where the
        server has none.
        """
        data = canonical(document)
        kind = str(document["mediaType"])
        digest = Digest.of(data)
        headers = {"Content-Type": kind}
        place = f"manifests/{tag or digest}"
        with self._wire.ask(self._push(reference, "PUT", place, headers, data, True)) as got:
            self._require(got, {201}, f"manifest {digest}")
            told = got.headers.get("Docker-Content-Digest")
            knows_referrers = "OCI-Subject" in got.headers
        if told not in (None, str(digest)):
            raise _wrong_digest(f"manifest {digest}")
        described = Descriptor(
            kind,
            digest,
            len(data),
            document.get("annotations", {}),
            document.get("artifactType"),
        )
        if "subject" in document and not knows_referrers:
            self._enter(reference, parse_manifest(data, kind), described)
        return described

    def _enter(self, reference: Reference, manifest: Manifest, entry: Descriptor) -> None:
        assert manifest.subject is not None
        known = self._tagged_referrers(reference, manifest.subject.digest)
        if any(one.digest == entry.digest for one in known):
            return
        index = {
            "schemaVersion": 2,
            "mediaType": IMAGE_INDEX,
            "manifests": [one.to_dict() for one in (*known, entry)],
        }
        self.push_manifest(reference, index, tag=_referrers_tag(manifest.subject.digest))

    def push_empty_config(self, reference: Reference) -> Descriptor:
        """Have the content there that stands where an artifact has no configuration."""
        return self.push(reference, EMPTY_CONTENT, EMPTY_CONFIG.media_type)

    def delete_manifest(self, reference: Reference, digest: Digest) -> None:
        """Remove a manifest and every tag of it; one that is not there is no error.

        Raises OperationalError `oci.no_delete` where the server does not do that.
        """
        ask = Ask("DELETE", self._url(reference, f"manifests/{digest}"), _scope(reference, "*"))
        with self._wire.ask(ask) as got:
            if got.status_code in (202, 200, 404):
                return
            if got.status_code in (400, 405):
                raise OperationalError(
                    "oci.no_delete",
                    f"The registry {reference.host} deletes nothing.",
                    "Have deletes enabled there, or remove it with the registry's own tools.",
                )
            raise self._wire.refused(got, f"deletion of {digest}")

    # Requests

    def _url(self, reference: Reference, path: str) -> str:
        scheme = "http" if is_loopback(reference.api_host) and not self._loopback_tls else "https"
        return f"{scheme}://{reference.api_host}/v2/{reference.repository}/{path}"

    def _pull(
        self,
        reference: Reference,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        follow: bool = False,
    ) -> Ask:
        url = self._url(reference, path)
        return Ask(method, url, _scope(reference, "pull"), headers or {}, follow=follow)

    def _push(
        self,
        reference: Reference,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        repeat: bool = False,
    ) -> Ask:
        url = self._url(reference, path)
        return Ask(method, url, _scope(reference, "pull,push"), headers or {}, content, repeat)

    def _within(self, reference: Reference, link: str, path: str) -> str:
        """The part of a further page's address that may be asked: the same listing, no other."""
        base = self._url(reference, path).partition("://")[2].partition("/")[2]
        rest, question, query = link.partition("?")
        if not question or not rest.endswith(f"/{base}"):
            raise malformed("its next page is of something else")
        return f"{path}?{quote(query, safe='=&%-._~')}"

    def _require(self, got: httpx.Response, good: set[int], what: str) -> None:
        if got.status_code == 404:
            raise InputError(
                "oci.missing",
                f"The registry knows no {what[:300]}.",
                "Look at the name, and whether it was pushed.",
            )
        if got.status_code not in good:
            raise self._wire.refused(got, what)


def _scope(reference: Reference, actions: str) -> str:
    return f"repository:{reference.repository}:{actions}"


def _referrers_tag(digest: Digest) -> str:
    return f"sha256-{digest.hex}"


def _wrong_digest(what: str) -> VerificationError:
    return VerificationError(
        "oci.wrong_digest",
        f"What the registry sends as {what[:300]} has another digest.",
        "Do not use it; ask whoever runs the registry.",
    )


def _wrong_size(digest: Digest, size: int | None) -> VerificationError:
    return VerificationError(
        "oci.wrong_size",
        f"The blob {digest} has not the {size} bytes that its manifest says.",
        "Do not use it; ask whoever pushed it.",
    )
