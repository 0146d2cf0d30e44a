"""A blob on its way into a repository, in pieces, and held to its digest at the end."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from keepstone.core.digest import Digest
from keepstone.errors import OperationalError, VerificationError
from keepstone.vault.stores.oci.manifest import malformed
from keepstone.vault.stores.oci.request import Ask
from keepstone.vault.stores.oci.wire import Wire

if TYPE_CHECKING:
    import httpx

# What is pushed goes in pieces of this size.
UPLOAD_PIECE = 8 << 20
_OCTETS = {"Content-Type": "application/octet-stream"}


class Upload:
    """A blob on its way into a repository. `write`, then `finish`."""

    def __init__(self, wire: Wire, begin: Ask) -> None:
        self._wire = wire
        self._scope = begin.scope
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._sent = 0
        self.finished = False
        with wire.ask(begin) as got:
            if got.status_code != 202:
                raise wire.refused(got, "the beginning of an upload")
            self._place = self._location(got)

    def write(self, data: memoryview) -> None:
        """Take more of the content; it is sent in pieces of UPLOAD_PIECE."""
        self._hash.update(data)
        self._buffer += data
        while len(self._buffer) >= UPLOAD_PIECE:
            piece = bytes(memoryview(self._buffer)[:UPLOAD_PIECE])
            del self._buffer[:UPLOAD_PIECE]
            self._patch(piece)

    def finish(self) -> tuple[Digest, int]:
        """Send the rest, and have the server hold it to its digest. Returns digest and size."""
        if self._buffer:
            self._patch(bytes(self._buffer))
            self._buffer.clear()
        digest = Digest(self._hash.hexdigest())
        mark = "&" if "?" in self._place else "?"
        url = f"{self._place}{mark}digest={quote(str(digest))}"
        with self._wire.ask(Ask("PUT", url, self._scope, _OCTETS, b"", False)) as got:
            if got.status_code != 201:
                raise self._wire.refused(got, "the end of an upload")
        self.finished = True
        return digest, self._sent

    def give_up(self) -> None:
        """Have the server forget what was sent; one that does not, ends it by itself later."""
        try:
            with self._wire.ask(Ask("DELETE", self._place, self._scope, repeat=False)):
                pass
        except (OperationalError, VerificationError):
            pass

    def _patch(self, piece: bytes) -> None:
        headers = {
            **_OCTETS,
            "Content-Range": f"{self._sent}-{self._sent + len(piece) - 1}",
        }
        with self._wire.ask(Ask("PATCH", self._place, self._scope, headers, piece, False)) as got:
            if got.status_code not in (202, 204):
                raise self._wire.refused(got, "a piece of an upload")
            self._place = self._location(got)
        self._sent += len(piece)

    def _location(self, got: httpx.Response) -> str:
        """Where the upload goes on: at the registry that was asked, and nowhere else."""
        try:
            found = got.url.join(got.headers.get("Location", ""))
        except ValueError as error:
            raise malformed("it names no place for an upload") from error
        if (found.scheme, found.host, found.port) != (got.url.scheme, got.url.host, got.url.port):
            raise OperationalError(
                "oci.redirect",
                "The registry sends what we push to somebody else.",
                "Ask whoever runs the registry.",
            )
        return str(found)
