"""What clients try: each act sends real requests to one running endpoint."""

from __future__ import annotations

import json
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor

from act import Act, Outcome, act, answered
from place import Place

REQUESTS: list[Act] = []


def _values(place: Place, change: object) -> bytes:
    request = json.loads(place.sample)
    request["inputs"][0]["data"][0] = change
    return json.dumps(request).encode()


@act(REQUESTS, "a digit, with the key", "a prediction, its entry proved and opened")
def good(place: Place) -> Outcome:
    endpoint = place.endpoints[-1]
    status, headers, body = endpoint.send(place.sample)
    entry = headers.get("keepstone-entry", "")
    if status != 200 or not entry:
        return Outcome(f"{status} without an entry", False)
    (place.root / "request.json").write_bytes(place.sample)
    (place.root / "answer.json").write_bytes(body)
    proof = place.root / "prediction.tlog-proof"
    proved = place.keepstone(
        "ledger", "prove", entry, "--input", "request.json", "--output", "answer.json",
        "--out", proof, "--format", "json",
    )  # fmt: skip
    if proved.returncode:
        return Outcome(f"200, but: {proved.stderr.strip()}", False)
    opened = json.loads(proved.stdout)
    held = opened["included"] and opened["input"] == opened["output"] == "matches"
    label = json.loads(body)["outputs"][0]["data"]
    return Outcome(f"200, label {label[0]}, proof and commitments hold", held)


@act(REQUESTS, "the same proof, with another answer", "the commitment does not match")
def other_answer(place: Place) -> Outcome:
    endpoint = place.endpoints[-1]
    _, headers, _ = endpoint.send(place.sample)
    (place.root / "forged.json").write_bytes(b'{"outputs":[]}')
    done = place.keepstone("ledger", "prove", headers["keepstone-entry"], "--output", "forged.json")
    return Outcome(f"exit {done.returncode}", done.returncode == 1)


@act(REQUESTS, "no key", "401 auth.missing")
def no_key(place: Place) -> Outcome:
    return answered(place.endpoints[-1].send(place.sample, key=None), 401, "auth.missing")


@act(REQUESTS, "a wrong key", "401 auth.rejected")
def wrong_key(place: Place) -> Outcome:
    endpoint = place.endpoints[-1]
    key = str(endpoint.ready["api_key"])
    # The same id with another secret: only the keyed hash can tell.
    other = place.keepstone(
        "keys", "create", "user:other", "--role", "caller", "--format", "json", check=True
    )
    forged = key[:16] + json.loads(other.stdout)["key"][16:]
    return answered(endpoint.send(place.sample, key=forged), 401, "auth.rejected")


@act(REQUESTS, "an expired token", "401 auth.expired")
def expired(place: Place) -> Outcome:
    endpoint = place.endpoints[-1]
    made = place.keepstone(
        "token", "user:brief", "--role", "caller", "--lifetime", "1s", "--format", "json",
        check=True,
    )  # fmt: skip
    token = json.loads(made.stdout)["token"]
    time.sleep(2.1)
    return answered(endpoint.send(place.sample, key=token), 401, "auth.expired")


@act(REQUESTS, "a key without the role", "403 policy.denied")
def without_role(place: Place) -> Outcome:
    endpoint = place.endpoints[-1]
    made = place.keepstone(
        "keys", "create", "user:watcher", "--role", "metrics", "--format", "json", check=True
    )
    key = json.loads(made.stdout)["key"]
    seen = endpoint.send(b"", path="/metrics", method="GET", key=key)[0]
    denied = answered(endpoint.send(place.sample, key=key), 403, "policy.denied")
    return Outcome(f"{denied.observed} (its own /metrics: {seen})", denied.held and seen == 200)


@act(REQUESTS, "the minted key on /metrics", "403 policy.denied")
def least_privilege(place: Place) -> Outcome:
    answer = place.endpoints[-1].send(b"", path="/metrics", method="GET")
    return answered(answer, 403, "policy.denied")


@act(REQUESTS, "NaN in the input", "400 request.not_finite")
def nan(place: Place) -> Outcome:
    answer = place.endpoints[-1].send(_values(place, float("nan")))
    return answered(answer, 400, "request.not_finite")


@act(REQUESTS, "NaN as raw bytes", "400 request.not_finite")
def binary_nan(place: Place) -> Outcome:
    data = struct.pack("<64f", *([float("nan")] + [1.0] * 63))
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": [1, 64],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(data)},
                }
            ]
        }
    ).encode()
    answer = place.endpoints[-1].send(
        head + data, headers={"Inference-Header-Content-Length": str(len(head))}
    )
    return answered(answer, 400, "request.not_finite")


@act(REQUESTS, "a value out of the declared range", "400 request.out_of_range")
def out_of_range(place: Place) -> Outcome:
    return answered(place.endpoints[-1].send(_values(place, 17.5)), 400, "request.out_of_range")


@act(REQUESTS, "a wrong shape", "400 request.bad_shape")
def wrong_shape(place: Place) -> Outcome:
    request = json.loads(place.sample)
    request["inputs"][0]["shape"] = [1, 63]
    request["inputs"][0]["data"] = request["inputs"][0]["data"][:63]
    answer = place.endpoints[-1].send(json.dumps(request).encode())
    return answered(answer, 400, "request.bad_shape")


@act(REQUESTS, "a body larger than allowed", "413 request.too_large")
def oversize(place: Place) -> Outcome:
    # Announced, not sent: it must be refused before it is read.
    answer = place.endpoints[-1].send(b"", headers={"Content-Length": str(1 << 40)})
    return answered(answer, 413, "request.too_large")


@act(REQUESTS, "something that is not JSON", "400 request.not_json")
def not_json(place: Place) -> Outcome:
    return answered(place.endpoints[-1].send(b"\x80\x04K\x01."), 400, "request.not_json")


@act(REQUESTS, "more requests than the limit", "429 limit.principal for the rest")
def over_limit(place: Place) -> Outcome:
    place.keepstone("init", workspace="tight-site", check=True)
    policy = place.root / "tight-site" / "policy.toml"
    text = re.sub(r"principal_per_second = .*", "principal_per_second = 1", policy.read_text())
    policy.write_text(re.sub(r"principal_burst = .*", "principal_burst = 20", text))
    with (
        place.serving(place.model, workspace="tight-site") as endpoint,
        ThreadPoolExecutor(4) as pool,
    ):
        answers = list(pool.map(lambda _: endpoint.send(place.sample)[0], range(60)))
    served, limited = answers.count(200), answers.count(429)
    held = 20 <= served < 40 and served + limited == 60
    return Outcome(f"{served} served, {limited} refused with 429", held)
