"""Our side of the tasks that `signing_peer.py` takes, in a process of its own like the peer's.

`python -m bench.signing_ours PRIVATE PUBLIC` reads `sign MODEL SIGNATURE [SHARD]` or
`verify MODEL SIGNATURE [SHARD]`, one a line, and prints its seconds, on the wall and of all cores.
A shard size stands for our own, 4 MiB; `verify` goes by the signature.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.identity.signing import load_private_key, load_public_key


def main(private: str, public: str) -> None:
    for line in sys.stdin:
        kind, model, signature, *shard = line.split()
        begin, used = time.perf_counter(), time.process_time()
        if kind == "sign":
            key = load_private_key(Path(private))
            Path(signature).write_bytes(sign_model(Path(model), key, shards=bool(shard)))
        else:
            verify_model(Path(model), Path(signature).read_bytes(), load_public_key(Path(public)))
        print(time.perf_counter() - begin, time.process_time() - used, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
