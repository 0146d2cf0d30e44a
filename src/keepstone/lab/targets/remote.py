"""A server that speaks the Open Inference Protocol v2, asked as any client asks it.

Promise: nothing that the other side does hangs this one or fills its memory. Certificates are
verified, no redirect is followed, an answer has a size and a time that it must keep; a refusal
to answer (429, 503, a time-out) leaves a request unanswered, and anything that is no answer in
the protocol is a coded error.

Source: https://github.com/kserve/open-inference-protocol (REST).
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf, prod
from typing import Any
from urllib.parse import quote, urlsplit

from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec
from keepstone.contract.validate import Array
from keepstone.core.canonical import parse_json
from keepstone.errors import InputError, OperationalError

MAX_ANSWER = 16 << 20
_WAIT_S = 30.0
_MAX_TRIES = 4
# Of an endpoint of ours: one who may only predict is not told what the model takes.
_WITHOUT_RIGHT = (
    "Ask with a key (--key-file) whose role grants model.read and model.predict of this model"
    " (--model), as red-team does: see docs/explain/attacking.md."
)
# Said by a target that does not want to answer now.
_THROTTLED = frozenset({408, 425, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Address:
    """Where to ask: `https://host[:port][/base]`, and the model's name there.

    `key` goes into the header Authorization. `trusted` are the certificates (PEM) to trust
    instead of the system's.
    """

    host: str
    port: int
    base: str
    model: str
    key: str | None = field(default=None, repr=False)
    trusted: str | None = field(default=None, repr=False)

    @classmethod
    def parse(
        cls, url: str, model: str, key: str | None = None, trusted: str | None = None
    ) -> Address:
        """Raises InputError `target.bad_url`, `target.bad_key`."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            # The reason would quote the address, and with it what may be a secret.
            raise bad_url(url) from None
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme != "https" or not host or not plain or not url.isprintable():
            raise bad_url(url)
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise InputError("target.bad_key", "The key is not one line of printable ASCII.")
        return cls(host, port or 443, parts.path.rstrip("/"), model, key, trusted)

    @property
    def shown(self) -> str:
        """For people and records: without the key."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{self.base} {self.model}"[:256]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output as it was answered: flat values of JSON, of which nothing is believed yet."""

    datatype: DType
    shape: tuple[int, ...]
    data: list[Any]


class Remote:
    """One model at one address. `waited_s` and `refusals` tell how much it held back.

    Once it is `exhausted`, patience or the time for all is spent: nothing is asked any more.
    """

    def __init__(
        self,
        address: Address,
        *,
        seconds: float = 30.0,
        patience: float = 60.0,
        in_all: float = inf,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        keep_alive: bool = False,
    ) -> None:
        """`seconds` is for one answer; `patience` is how long refusals are waited out, in all; no
        question is asked `in_all` seconds after the first, for right answers may come slowly too.

        Time spent on an answer that never came counts as patience, by `clock`.

        With `keep_alive` one connection is used for all questions, until `close`. Raises
        InputError `target.bad_ca`.
        """
        self.address = address
        self.waited_s = 0.0
        self.refusals = 0
        self.exhausted = False
        self._context = _context(address.trusted)
        self._seconds = seconds
        self._patience = patience
        self._in_all = in_all
        self._began: float | None = None
        self._sleep = sleep
        self._clock = clock
        self._path = f"{quote(address.base)}/v2/models/{quote(address.model, safe='')}"
        self._keep_alive = keep_alive
        self._connection: http.client.HTTPSConnection | None = None

    def metadata(self) -> ModelContract:
        """What the model says that it takes.

        Raises OperationalError `target.unreachable`, `target.refused`, `target.bad_answer`,
        `target.too_large`, `target.redirect`, `target.throttled`.
        """
        return _contract(self._once("GET", self._path, None))

    def infer(
        self, spec: TensorSpec, question: Array, outputs: Sequence[str]
    ) -> dict[str, Tensor] | None:
        """The `outputs` for a batch of inputs, or None where it does not answer or is exhausted.

        Each has the batch's length first and as many values as its shape says. Raises as
        `metadata`, but for `target.throttled`.
        """
        if self._is_late():
            return None
        body = json.dumps(
            {
                "inputs": [
                    {
                        "name": spec.name,
                        "shape": list(question.shape),
                        "datatype": spec.datatype.value,
                        "data": question.ravel().tolist(),
                    }
                ],
                "outputs": [{"name": name} for name in outputs],
            }
        ).encode()
        for _ in range(_MAX_TRIES):
            began = self._clock()
            try:
                found = self._once("POST", f"{self._path}/infer", body)
            except NotNowError as throttled:
                self.refusals += 1
                # A time-out names no time to wait: what it took itself is what it costs.
                self.waited_s += self._clock() - began
                wait = min(throttled.seconds, _WAIT_S)
                if self.waited_s + wait > self._patience:
                    self.exhausted = True
                    break
                self.waited_s += wait
                self._sleep(wait)
                continue
            return {name: _tensor(found, name, len(question)) for name in outputs}
        return None

    def _is_late(self) -> bool:
        now = self._clock()
        self._began = now if self._began is None else self._began
        self.exhausted = self.exhausted or now - self._began > self._in_all
        return self.exhausted

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "keepstone"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.address.key is not None:
            headers["Authorization"] = f"Bearer {self.address.key}"
        if self._connection is not None:
            try:
                return self._exchange(self._connection, method, path, body, headers)
            except OperationalError as error:
                # A connection that was kept may have been closed there while nothing was asked.
                if error.code != "target.unreachable":
                    raise
        self._connection = http.client.HTTPSConnection(
            self.address.host, self.address.port, timeout=self._seconds, context=self._context
        )
        return self._exchange(self._connection, method, path, body, headers)

    def _exchange(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Any:
        """One question and its answer; afterwards the connection is kept if it is at its end."""
        late = threading.Event()
        kept = False
        try:
            if connection.sock is None:
                connection.connect()
            with _at_most(connection.sock, self._seconds, late):
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                _require_ok(answer)
                data = _read(answer)
            if late.is_set():
                raise NotNowError(0.0)
            kept = self._keep_alive and not answer.will_close
            return _json(data)
        except TimeoutError as error:
            raise NotNowError(0.0) from error
        except (OSError, http.client.HTTPException) as error:
            if late.is_set():
                raise NotNowError(0.0) from error
            raise OperationalError(
                "target.unreachable",
                f"{self.address.shown} cannot be asked: {type(error).__name__}.",
                "Check the address, and --ca for a certificate of its own.",
            ) from error
        finally:
            if not kept:
                self.close()


class NotNowError(OperationalError):
    """The target does not answer now; it may in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__("target.throttled", "The target does not answer now.", "Try again later.")
        self.seconds = seconds


def _require_ok(answer: http.client.HTTPResponse) -> None:
    status = answer.status
    if status in _THROTTLED:
        told = answer.headers.get("Retry-After", "")
        raise NotNowError(
            float(told) if told.isascii() and told.isdigit() and len(told) < 7 else 1.0
        )
    if 300 <= status < 400:
        raise OperationalError(
            "target.redirect", "The target sends us elsewhere.", "Give the address itself."
        )
    if status != 200:
        raise OperationalError(
            "target.refused",
            f"The target refuses with the status {status}.",
            _WITHOUT_RIGHT
            if status == 403
            else "Check the model's name (--model) and the key (--key-file).",
        )


@contextmanager
def _at_most(connected: socket.socket, seconds: float, late: threading.Event) -> Iterator[None]:
    """Cut the connection after `seconds`: a time-out of the socket counts from each byte anew."""

    def cut() -> None:
        late.set()
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(answer: http.client.HTTPResponse) -> bytes:
    data = answer.read(MAX_ANSWER + 1)
    if len(data) > MAX_ANSWER:
        raise OperationalError(
            "target.too_large", f"The target's answer has more than {MAX_ANSWER} bytes."
        )
    return data


def _json(data: bytes) -> Any:
    try:
        return parse_json(data, limit=MAX_ANSWER)
    except InputError as error:
        raise _bad_answer() from error


def _contract(metadata: Any) -> ModelContract:
    """What the model says that it takes. Raises OperationalError `target.bad_answer`."""
    try:
        sides = [
            tuple(
                TensorSpec(
                    str(t["name"]), DType(t["datatype"]), tuple(_length(n) for n in t["shape"])
                )
                for t in metadata[side]
            )
            for side in ("inputs", "outputs")
        ]
        return ModelContract(sides[0], sides[1], "derived")
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise _bad_answer() from error


def _length(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(value)
    return value if value > 0 else ANY


def _tensor(found: Any, output: str, count: int) -> Tensor:
    """One output out of the protocol's JSON. Raises OperationalError `target.bad_answer`."""
    try:
        tensor = next(t for t in found["outputs"] if t["name"] == output)
        datatype = DType(tensor["datatype"])
        shape = tuple(_length(n) for n in tensor["shape"])
        data = _flat(tensor["data"], prod(shape[1:]))
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise _bad_answer() from error
    if not shape or shape[0] != count or prod(shape) != len(data) or len(shape) > 2:
        raise _bad_answer()
    return Tensor(datatype, shape, data)


def _flat(data: Any, width: int) -> list[Any]:
    """Scalars in one list, out of one list or of rows of `width` each.

    A row of another length, or a list where a value should be, would shift those after it to
    rows that they do not belong to.
    """
    if not isinstance(data, list):
        raise TypeError(data)
    nested = bool(data) and isinstance(data[0], list)
    if nested and any(not isinstance(row, list) or len(row) != width for row in data):
        raise ValueError(width)
    values: list[Any] = [value for row in data for value in row] if nested else data
    if not all(isinstance(value, str | int | float) for value in values):
        raise TypeError(width)
    return values


def _context(trusted: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=trusted)
    except (ssl.SSLError, ValueError) as error:
        raise InputError("target.bad_ca", "The certificates to trust cannot be read.") from error


def bad_url(url: str) -> InputError:
    return InputError(
        "target.bad_url",
        f"{_public(url)!r} is not an address to ask.",
        "Write https://HOST[:PORT][/BASE], without a name, a query or a key in it.",
    )


def _public(url: str) -> str:
    """Scheme and host of what should have been an address: the rest may hold a secret."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "..."
    # An @ behind the host, or text where the port belongs, may be the end of a password: then
    # what looks like the host is none.
    rest = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    if not host or "@" in parts.path + parts.query + parts.fragment or rest.strip("0123456789"):
        return "..."
    return f"{parts.scheme}://{host}"[:100]


def _bad_answer() -> OperationalError:
    return OperationalError(
        "target.bad_answer", "The target does not answer in the Open Inference Protocol v2."
    )
