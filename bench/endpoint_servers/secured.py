"""Keepstone's endpoint with every guard on and a real ledger on disk, as `keepstone up` wires it.

usage: secured.py MODEL PORT strict|group plain|tls FOLDER
Writes an API key to FOLDER/key, and the local CA to FOLDER/ca.pem, before it serves.
"""

from __future__ import annotations

import sys
from pathlib import Path

from keepstone.contract.onnx import derive_contract, read_onnx
from keepstone.core.digest import Digest
from keepstone.core.ports import SystemClock, SystemRandomness
from keepstone.gateway.app import Gateway, GatewayOptions
from keepstone.gateway.audit import AuditOptions, AuditTrail
from keepstone.gateway.commitment import Period
from keepstone.gateway.connections import ConnectionLimits
from keepstone.gateway.endpoint import Endpoint
from keepstone.gateway.guards import Credentials
from keepstone.gateway.limits import Rate
from keepstone.gateway.server import Server, listen, tls_context
from keepstone.identity.apikeys import DAY_MS, ApiKeyRing
from keepstone.identity.principal import Grant
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.identity.tls import create_ca, issue_leaf
from keepstone.ledger.log import Ledger
from keepstone.policy.engine import Authorizer, Engine
from keepstone.policy.parse import parse_policy, profile_text
from keepstone.vault.load.onnx import OnnxRuntime, open_session

PLENTY = Rate(1e6, 1_000_000)


class OnePeriod:
    def __init__(self) -> None:
        self._period = Period("bench", SystemRandomness().token_bytes(32), 1 << 60)

    def current(self, now: int) -> Period:
        return self._period


def main(model: str, port: str, mode: str, transport: str, folder: str) -> None:
    data, root, clock = Path(model).read_bytes(), Path(folder), SystemClock()
    now = clock.now_ms()
    contract = derive_contract(read_onnx(memoryview(data)))
    ring = ApiKeyRing([], SystemRandomness().token_bytes(32))
    key, _ = ring.mint("user:bench", [Grant("caller", ("digits",))], now=now, lifetime_ms=DAY_MS)
    (root / "key").write_text(key)
    ledger = Ledger.create(
        root / "ledger.sqlite",
        origin="bench.local/ledger",
        key=SigningKey.generate(Algorithm.ED25519),
    )
    endpoint = Endpoint("digits", contract, OnnxRuntime(open_session(data), contract))
    endpoint.admit(Digest.of(data), now + DAY_MS)
    audit = AuditTrail(ledger, OnePeriod(), clock, SystemRandomness(), AuditOptions(mode=mode))
    gateway = Gateway(
        [endpoint],
        Credentials(ring),
        Authorizer(Engine(parse_policy(profile_text("local")))),
        audit,
        clock,
        GatewayOptions(address=PLENTY, principal=PLENTY),
    )
    tls = None
    if transport == "tls":
        authority = create_ca([], now)
        (root / "ca.pem").write_bytes(authority.certificate_pem)
        leaf = issue_leaf(authority, ["127.0.0.1"], now)
        tls = tls_context(leaf.chain_pem, leaf.key_pem)
    limits = ConnectionLimits(total=4096, per_address=4096)
    Server(gateway, listen("127.0.0.1", int(port)), tls=tls, limits=limits).run()
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
