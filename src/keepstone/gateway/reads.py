"""What can be read at the endpoint besides predictions: health, metadata, metrics, API document.

Nothing here is hot, and everything but liveness has passed the guards when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from keepstone.contract.openapi import openapi
from keepstone.contract.protocol import VERSION
from keepstone.contract.schema import TensorSpec
from keepstone.gateway.endpoint import Endpoint
from keepstone.gateway.exchange import Exchange
from keepstone.gateway.guards import Authorizer
from keepstone.gateway.metrics import CONTENT_TYPE, Metrics
from keepstone.gateway.problem import PROBLEMS, Headers, Problem

Answer = tuple[int, Headers, bytes]
_JSON = b"application/json"


def _reply(body: bytes, kind: bytes = _JSON, status: int = 200) -> Answer:
    length = str(len(body)).encode("ascii")
    headers = [(b"content-type", kind), (b"content-length", length)]
    return status, [*headers, (b"cache-control", b"no-store")], body


ALIVE = _reply(b'{"live":true}')


@dataclass(frozen=True, slots=True)
class Read:
    """One route: what must be allowed (None: any principal), on which model, and the answer."""

    action: str | None
    endpoint: Endpoint | None
    reply: Callable[[Exchange], Answer | Problem]


class Reads:
    """Every GET route but liveness, by its exact path."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        authorizer: Authorizer,
        metrics: Metrics,
        url: str,
        version: str,
    ) -> None:
        self._endpoints = endpoints
        self._authorizer = authorizer
        self._metrics = metrics
        self._url = url
        self._version = version
        self.routes: dict[bytes, Read] = {
            b"/v2": Read(None, None, self._server),
            b"/v2/health/ready": Read(None, None, self._ready),
            b"/metrics": Read("metrics.read", None, self._scrape),
            b"/openapi.json": Read(None, None, self._document),
        }
        for endpoint in endpoints:
            for base in (f"/v2/models/{endpoint.name}", f"/v2/models/{endpoint.name}/versions/1"):
                path = base.encode("ascii")
                self.routes[path] = Read("model.read", endpoint, self._model)
                self.routes[path + b"/ready"] = Read("model.read", endpoint, self._model_ready)

    def _server(self, exchange: Exchange) -> Answer:
        return _json(
            {"name": "keepstone", "version": self._version, "extensions": ["binary_tensor_data"]}
        )

    def _ready(self, exchange: Exchange) -> Answer:
        ready = all(each.admitted(exchange.now) is not None for each in self._endpoints)
        return _json({"ready": ready}, 200 if ready else 503)

    def _scrape(self, exchange: Exchange) -> Answer:
        return _reply(self._metrics.text(), CONTENT_TYPE)

    def _document(self, exchange: Exchange) -> Answer | Problem:
        readable = {
            each.name: each.contract
            for each in self._endpoints
            if exchange.principal is not None
            and self._authorizer.decide(exchange.principal, "model.read", each.name).allowed is True
        }
        if not readable:
            return PROBLEMS["policy.denied"]
        document = openapi(
            readable,
            title="Keepstone",
            version=self._version,
            url=self._url,
            plain=len(self._endpoints) == 1,
        )
        return _json(document)

    def _model(self, exchange: Exchange) -> Answer | Problem:
        endpoint = exchange.endpoint
        if endpoint is None:
            return PROBLEMS["route.unknown"]
        return _json(
            {
                "name": endpoint.name,
                "versions": [VERSION],
                "platform": "onnx",
                "inputs": [_metadata(spec) for spec in endpoint.contract.inputs],
                "outputs": [_metadata(spec) for spec in endpoint.contract.outputs],
            }
        )

    def _model_ready(self, exchange: Exchange) -> Answer | Problem:
        endpoint = exchange.endpoint
        if endpoint is None:
            return PROBLEMS["route.unknown"]
        ready = endpoint.admitted(exchange.now) is not None
        return _json({"name": endpoint.name, "ready": ready}, 200 if ready else 503)


def _json(value: Mapping[str, Any], status: int = 200) -> Answer:
    return _reply(msgspec.json.encode(value), status=status)


def _metadata(spec: TensorSpec) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": spec.name,
        "datatype": str(spec.datatype),
        "shape": list(spec.shape),
    }
    declared = {"low": spec.low, "high": spec.high, "features": list(spec.features) or None}
    parameters = {name: value for name, value in declared.items() if value is not None}
    return plain | ({"parameters": parameters} if parameters else {})
