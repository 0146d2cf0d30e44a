"""One request on its way through the guards."""

from __future__ import annotations

from keepstone.contract.protocol import InferRequest
from keepstone.gateway.endpoint import Endpoint
from keepstone.gateway.problem import Problem
from keepstone.identity.principal import Principal


class Exchange:
    """What is known of a request so far. Guards read it and add what they established.

    `now` is in milliseconds (one look at the clock per request), `ticks` in seconds of a
    monotonic clock, for limits. `principal` is set once authentication succeeded, `cleared` once
    the principal's own limit let the request pass, `admission` (hex) with the endpoint's. A
    `flaw` is what the headers were found wanting in; it is told only to who may know.
    """

    __slots__ = (
        "action",
        "address",
        "admission",
        "body",
        "cleared",
        "credential",
        "endpoint",
        "flaw",
        "header_length",
        "now",
        "plain",
        "principal",
        "request",
        "started",
        "ticks",
    )

    def __init__(self, address: str, now: int, ticks: float, started: int) -> None:
        self.address = address
        self.action: str | None = None
        self.endpoint: Endpoint | None = None
        self.now = now
        self.ticks = ticks
        self.started = started
        self.credential: bytes | Problem | None = None
        self.flaw: Problem | None = None
        self.header_length: int | None = None
        self.plain = False
        self.principal: Principal | None = None
        self.cleared = False
        self.admission: str | None = None
        self.body = b""
        self.request: InferRequest | None = None
