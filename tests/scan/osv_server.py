"""A server of OSV archives on loopback that answers as badly as it is told to."""

from __future__ import annotations

import io
import json
import ssl
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.scan.osv_records import before, record

MODIFIED = "2026-01-02T03:04:05Z"


def osv_record(id: str, name: str = "left-pad", **more: Any) -> dict[str, Any]:
    """About every version of `name` below 2.0."""
    return record(id, before("2.0", name), **{"modified": MODIFIED, **more})


def osv_zip(*records: dict[str, Any]) -> bytes:
    """OSV's archive of these records."""
    return zip_of({f"{one['id']}.json": json.dumps(one).encode() for one in records})


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@dataclass
class Answer:
    """One file: what is sent, or what is done instead."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    instead: Callable[[BaseHTTPRequestHandler], None] | None = None
    seen: list[dict[str, str]] = field(default_factory=list)


class Osv:
    """`files[path]` is what is given out; `stop` ends those who never end."""

    def __init__(self) -> None:
        self.files: dict[str, Answer] = {}
        self.stop = threading.Event()
        self.url = ""

    def put(self, ecosystem: str, body: bytes, **given: Any) -> Answer:
        answer = Answer(body, **given)
        self.files[f"/{ecosystem}/all.zip"] = answer
        return answer

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        answer = self.files.get(unquote(handler.path))
        if answer is None:
            handler.send_error(404)
            return
        answer.seen.append({name.lower(): value for name, value in handler.headers.items()})
        if answer.instead is not None:
            answer.instead(handler)
            return
        etag = answer.headers.get("ETag")
        if etag is not None and handler.headers.get("If-None-Match") == etag:
            handler.send_response(304)
            handler.end_headers()
            return
        handler.send_response(answer.status)
        for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(answer.body)


@contextmanager
def osv_server(tls: ssl.SSLContext | None = None) -> Iterator[Osv]:
    osv = Osv()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                osv.answer(self)
            except OSError:
                # The client went away, as it should have.
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
    osv.url = f"{scheme}://{host}:{server.server_address[1]}"
    try:
        yield osv
    finally:
        osv.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
