"""model-signing under the same tasks as ours; runs in the peer's own environment.

`signing_peer.py PRIVATE PUBLIC` reads one task a line, `sign MODEL SIGNATURE [SHARD]` or
`verify MODEL SIGNATURE [SHARD]`, and prints its seconds, on the wall and of all cores. With a shard
size it is told to use shards; without, `sign` uses its default and `verify` goes by the signature.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import model_signing

# Untyped in parts: this file is the peer's, and runs where our checker does not.
api: Any = model_signing


def configured(kind: str, private: str, public: str) -> Any:
    if kind == "sign":
        return api.signing.Config().use_elliptic_key_signer(private_key=private)
    return api.verifying.Config().use_elliptic_key_verifier(public_key=public)


def main(private: str, public: str) -> None:
    for line in sys.stdin:
        kind, model, signature, *shard = line.split()
        begin, used = time.perf_counter(), time.process_time()
        config = configured(kind, private, public)
        if shard:
            hashing = api.hashing.Config().use_shard_serialization(shard_size=int(shard[0]))
            config.set_hashing_config(hashing)
        (config.sign if kind == "sign" else config.verify)(model, signature)
        print(time.perf_counter() - begin, time.process_time() - used, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
