"""In front of both of MLflow's routers: who calls, and whether such a request gets in at all.

MLflow mounts Flask inside FastAPI, and a hook of one never sees what the other serves. This is an
ASGI application around both. What it lets in about registered models is decided further inside,
in the store (`registry`); files by their path are decided here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import anyio.to_thread

from keepstone.errors import DeniedError, InputError, KeepstoneError, OperationalError
from keepstone.evidence.registrations import Registration, Registrations
from keepstone.identity.principal import Principal
from keepstone.integrations.mlflow.callers import CALLER, Caller
from keepstone.integrations.mlflow.guard import PULL, PUSH, Guard
from keepstone.integrations.mlflow.names import location_of
from keepstone.integrations.mlflow.routes import About, about, is_plain

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_READS = frozenset({"GET", "HEAD"})
_FILES = "mlflow-artifacts:/"
# One answer for whatever is wrong with a credential: nothing to learn from.
_UNAUTHENTICATED = (401, "auth.refused", "Send a live Keepstone API key or token.")


@dataclass(frozen=True, slots=True)
class Request:
    """What is decided on: nothing here was parsed twice."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    authorization: tuple[bytes, ...]

    @classmethod
    def of(cls, scope: Scope) -> Request:
        path, root = str(scope["path"]), str(scope.get("root_path", ""))
        if root and (path == root or path.startswith(root + "/")):
            path = path.removeprefix(root) or "/"
        given = tuple(value for name, value in scope["headers"] if name.lower() == b"authorization")
        raw = scope.get("raw_path") or path.encode("utf-8", "surrogateescape")
        return cls(str(scope["method"]).upper(), path, raw, scope.get("query_string", b""), given)


class GuardedApp:
    """MLflow's application `inner` behind the guard.

    With `inner_authenticates`, MLflow's own basic-auth application is inside: it goes on to say
    who is who for those who come without a Keepstone credential, and what they may.
    """

    def __init__(
        self, inner: Asgi, guard: Guard, *, inner_authenticates: bool, prefix: str = ""
    ) -> None:
        self._inner = inner
        self._guard = guard
        self._inner_authenticates = inner_authenticates
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            caller = await anyio.to_thread.run_sync(self.let_in, Request.of(scope))
        except KeepstoneError as error:
            await _answer(send, *_status(error))
            return
        except Exception:  # noqa: BLE001  # a process edge: what fails here lets nobody in
            await _answer(send, 503, "mlflow.unreadable", "The guard could not decide.")
            return
        held = CALLER.set(caller)
        try:
            await self._inner(scope, receive, send)
        finally:
            CALLER.reset(held)

    def let_in(self, request: Request) -> Caller:
        """Say who calls, if the request may go on to MLflow.

        (1) Every router reads its path alike. (2) It needs nobody, or its credential is live.
        (3) The route is one that is known. (4) A grant reaches what it touches, where that is
        not for the store to say.

        Raises InputError `mlflow.bad_path`; DeniedError `auth.*`, `policy.denied`,
        `mlflow.closed`, `mlflow.admitted_files`; OperationalError as reading and recording do.
        """
        # (1)
        if not is_plain(request.path, request.raw_path):
            raise InputError("mlflow.bad_path", "The path is not in its one plain spelling.")
        touched, file = about(request.path, self._prefix)
        # (2)
        principal = self._principal(request, touched)
        name = _claimed(request) if principal is None else principal.id
        caller = Caller(name, principal)
        try:
            if touched is About.ARTIFACTS:
                self._require_file(request, _named(request, file), principal)
            elif principal is not None:
                self._require(request, touched, principal)
        except DeniedError as error:
            self._guard.record(caller, request.method, {"path": request.path[:512]}, error.code)
            raise
        return caller

    def _principal(self, request: Request, touched: About) -> Principal | None:
        bearer = [
            value[7:].strip() for value in request.authorization if value[:7].lower() == b"bearer "
        ]
        if bearer and len(request.authorization) == 1:
            return self._guard.authenticate(bearer[0])
        if touched is About.PUBLIC or (self._inner_authenticates and not bearer):
            return None
        raise DeniedError("auth.missing", "No single credential was given.")

    def _require(self, request: Request, touched: About, who: Principal) -> None:
        # (3)
        if touched is About.CLOSED:
            raise DeniedError("mlflow.closed", "This route of MLflow is closed here.")
        # (4)
        if touched is About.TRACKING and not self._guard.may_any(who, PUSH):
            raise _denied(PUSH)
        if touched is About.EVERYTHING and not self._guard.may_every(who, PULL):
            raise _denied(PULL)

    def _require_file(self, request: Request, path: str, who: Principal | None) -> None:
        """An admitted version's files are for who may pull it; nobody changes them.

        Of whom MLflow authenticates, MLflow says what they may read.
        """
        held = self._guard.judge.registrations()
        found, is_read = _nearest(held, path), request.method in _READS
        if not is_read and (found or held.below(location_of(_FILES + path))):
            raise DeniedError(
                "mlflow.admitted_files", "The files of an admitted version do not change."
            )
        if who is None:
            return
        if not is_read or not found:
            # Runs, and versions that nobody admitted: for who may make some.
            if not self._guard.may_any(who, PUSH):
                raise _denied(PUSH)
            return
        reach = self._guard.reach(who, PULL)
        if not any(reach.covers(one.said.model, one.said.version) for one in found):
            raise _denied(PULL)
        self._guard.note(Caller(who.id, who), "artifacts", {"path": path[:512]})


def _nearest(held: Registrations, path: str) -> list[Registration]:
    """The versions whose files lie at `path` or above it."""
    parts = [part for part in path.split("/") if part]
    for count in range(len(parts), 0, -1):
        found = held.all_at(location_of(_FILES + "/".join(parts[:count])))
        if found:
            return found
    return []


def _named(request: Request, file: str) -> str:
    """The path that a request for files means: in its own path, or for a listing, in its query."""
    if file:
        return file
    given = parse_qs(request.query.decode("latin-1"), keep_blank_values=True).get("path", [""])
    if len(given) != 1 or not is_plain("/" + given[0].strip("/"), given[0].encode()):
        raise InputError("mlflow.bad_path", "The path is not in its one plain spelling.")
    return given[0].strip("/")


def _claimed(request: Request) -> str:
    """Who a request to basic-auth says it is from: MLflow finds out whether that is so."""
    for value in request.authorization:
        if value[:6].lower() == b"basic ":
            try:
                name = base64.b64decode(value[6:], validate=True).split(b":", 1)[0]
            except (binascii.Error, ValueError):
                continue
            return (
                "mlflow:"
                + "".join(c for c in name.decode("utf-8", "replace") if c.isprintable())[:64]
            )
    return "mlflow:"


def _denied(action: str) -> DeniedError:
    return DeniedError("policy.denied", f"No grant of yours holds {action} on this.")


def _status(error: KeepstoneError) -> tuple[int, str, str]:
    if error.code.startswith("auth."):
        return _UNAUTHENTICATED
    words = f"{error.cause} {error.next_step}".rstrip()
    if isinstance(error, OperationalError):
        return 503, error.code, words
    return 400 if isinstance(error, InputError) else 403, error.code, words


_MLFLOW_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    503: "TEMPORARILY_UNAVAILABLE",
}


async def _answer(send: Send, status: int, code: str, words: str) -> None:
    """Answer as MLflow's clients expect to be told."""
    body = json.dumps(
        {"error_code": _MLFLOW_CODES[status], "message": f"[{code}] {words}"}
    ).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="keepstone"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
