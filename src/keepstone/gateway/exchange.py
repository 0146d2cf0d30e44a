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

    action: str | None = None
    admission: str | None = None
    body: bytes = b""
    cleared: bool = False
    credential: bytes | Problem | None = None
    endpoint: Endpoint | None = None
    flaw: Problem | None = None
    header_length: int | None = None
    plain: bool = False
    principal: Principal | None = None
    request: InferRequest | None = None

    def __init__(self, address: str, now: int, ticks: float, started: int) -> None:
        self.address = address
        self.now = now
        self.ticks = ticks
        self.started = started
