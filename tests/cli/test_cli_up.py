"""The main job, end to end: real processes, real sockets, a real client."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.loopback
BODY = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'


class Caller:
    """Sends to a running endpoint; each request on a connection of its own unless kept."""

    def __init__(
        self, ready: dict[str, Any], key: str | None = None, *, keep: bool = False
    ) -> None:
        self.port = int(ready["url"].rsplit(":", 1)[1])
        self.context = ssl.create_default_context(cafile=ready["ca"])
        self.keep = keep
        self.headers = {
            "Authorization": f"Bearer {key or ready['api_key']}",
            "Content-Type": "application/json",
        }
        self.path = f"/v2/models/{ready['model']}/infer"
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=9)

    def send(self, body: bytes = BODY) -> tuple[int, str, bytes]:
        self.connection.request("POST", self.path, body, self.headers)
        response = self.connection.getresponse()
        try:
            return response.status, response.getheader("keepstone-entry", ""), response.read()
        finally:
            if not self.keep:
                self.connection.close()


def test_a_model_without_a_contract_is_served_and_proved(place: Any) -> None:
    ready = place.up()
    status, entry, answer = Caller(ready).send()
    (place.root / "q").write_bytes(BODY)
    (place.root / "a").write_bytes(answer)
    proved = place.json("ledger", "prove", entry, "--input", "q", "--output", "a", "--out", "p")
    vkey = place.json("ledger", "checkpoint")["vkey"]
    offline = place.run("ledger", "verify", "--proof", "p", "--vkey", vkey)
    (place.root / "a").write_bytes(answer + b" ")
    other = place.run("ledger", "prove", entry, "--output", "a")

    assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [2.0, 4.0, 6.0])
    assert (proved["included"], proved["input"], proved["output"]) == (True, "matches", "matches")
    assert (offline.returncode, other.returncode) == (0, 1)
    log = (place.root / "up.log").read_text()
    assert "ranges: not declared" in log
    assert "origin: no publisher" in log


def test_the_ready_file_and_the_key_are_their_owners_alone(place: Any) -> None:
    ready = place.up()
    header = place.workspace / "api-key.header"

    assert ready.keys() == {"url", "ca", "api_key", "model", "pid"}
    assert ready["pid"] == place.running[-1].pid
    assert header.read_text() == f"Authorization: Bearer {ready['api_key']}\n"
    for path in (header, place.root / "ready-0.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_printed_curl_works_as_printed(place: Any, need: Callable[[str, str], str]) -> None:
    import subprocess

    need("curl", "run the command that `up` prints")
    place.up()
    log = (place.root / "up.log").read_text()
    line = next(line for line in log.splitlines() if line.startswith("  curl "))
    done = subprocess.run(
        ["bash", "-c", f"{line} --silent --fail"], cwd="/", capture_output=True, check=False
    )

    assert json.loads(done.stdout)["model_name"] == "scale"


def test_tritonclient_gets_predictions_in_json_and_binary(place: Any) -> None:
    from tritonclient.http import InferenceServerClient, InferInput

    ready = place.up()
    client = InferenceServerClient(
        ready["url"].removeprefix("https://"),
        ssl=True,
        ssl_context_factory=lambda: ssl.create_default_context(cafile=ready["ca"]),
    )
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
    for binary in (True, False):
        given = InferInput("x", [2, 3], "FP32")
        given.set_data_from_numpy(values, binary_data=binary)
        # A dictionary for each: the client writes headers of its own into it.
        headers = {"Authorization": f"Bearer {ready['api_key']}"}
        answer = client.infer(ready["model"], [given], headers=headers)
        assert np.array_equal(answer.as_numpy("y"), values * 2)
    client.close()


def test_a_revocation_from_another_process_stops_serving_within_a_second(place: Any) -> None:
    place.must("init")
    key = place.signer("alice", "responder")
    ready = place.up()
    caller = Caller(ready)
    before = caller.send()[0]
    place.must("revoke", "scale", "--as", key, "--reason", "poisoned")
    recorded = time.monotonic()
    after, _, answer = caller.send()
    assert (before, after) == (200, 403)
    assert json.loads(answer)["code"] == "model.revoked"
    assert time.monotonic() - recorded < 1
    assert place.stop() == 0
    again = place.run("up", place.model, "--port", 0)
    renamed = place.root / "innocent.onnx"
    renamed.write_bytes(place.model.read_bytes())
    other = place.run("up", renamed, "--port", 0)

    assert (again.returncode, other.returncode) == (1, 1)
    assert "error[gate.revoked]" in again.stderr
    assert "error[gate.revoked]" in other.stderr


def test_only_another_signer_reinstates(place: Any, error_code: Callable[[Any], str]) -> None:
    place.must("init")
    revoker = place.signer("alice", "responder")
    place.must("signers", "list")
    other = place.signer("bob", "reinstater")
    place.up()
    place.stop()
    place.must("revoke", "scale", "--as", revoker, "--reason", "a mistake")
    by_same = place.run("reinstate", "scale", "--as", revoker, "--reason", "sorry")
    place.must("reinstate", "scale", "--as", other, "--reason", "checked")

    assert by_same.returncode == 1
    assert error_code(by_same) == "statement.no_right"
    assert Caller(place.up()).send()[0] == 200


def test_a_second_up_reuses_what_holds(place: Any) -> None:
    place.up()
    place.stop()
    place.up()

    log = (place.root / "up.log").read_text()
    assert "clean, by a scan that still counts" in log
    assert "sealed before" in log


def test_a_second_owner_is_refused_and_harms_nobody(
    place: Any, error_code: Callable[[Any], str]
) -> None:
    ready = place.up()
    second = place.run("up", place.model, "--port", 0)

    assert (second.returncode, error_code(second)) == (3, "workspace.owned")
    assert Caller(ready).send()[0] == 200


def test_commands_reach_the_owner(place: Any) -> None:
    ready = place.up()
    made = place.json("keys", "create", "user:bob", "--model", "scale")
    token = place.json("token", "user:eve", "--model", "scale", "--lifetime", "60s")["token"]
    assert Caller(ready, made["key"]).send()[0] == 200
    assert Caller(ready, token).send()[0] == 200
    rotated = place.json("keys", "rotate", made["key_id"], "--overlap", "1h")
    assert Caller(ready, made["key"]).send()[0] == 200
    assert Caller(ready, rotated["key"]).send()[0] == 200
    place.must("keys", "revoke", made["key_id"])

    assert Caller(ready, made["key"]).send()[0] == 401
    assert Caller(ready, rotated["key"]).send()[0] == 401


def test_a_policy_edited_while_serving_takes_effect_and_a_broken_one_does_not(place: Any) -> None:
    ready = place.up()
    policy = place.workspace / "policy.toml"
    good = policy.read_text()
    policy.write_text("schema = 7")
    broken = place.run("policy", "check")
    assert (broken.returncode, Caller(ready).send()[0]) == (2, 200)
    policy.write_text(
        good.replace('methods = ["api_key", "token", "local"]', 'methods = ["token"]')
    )
    place.must("policy", "check")

    deadline = time.monotonic() + 5
    while (status := Caller(ready).send()[0]) == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 403


# A server that goes away between a connect and its handshake: the `ssl` module lets go of the
# client's socket without closing it.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop_loses_nothing_acknowledged(place: Any, how: int) -> None:
    entries = _load(place, place.up("--audit", "group"), how)

    assert place.running[-1].wait(timeout=20) == 0
    _all_there(place, entries)


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_a_kill_loses_nothing_acknowledged(place: Any) -> None:
    entries = _load(place, place.up(), signal.SIGKILL)

    place.running[-1].wait(timeout=20)
    _all_there(place, entries)
    assert Caller(place.up()).send()[0] == 200


def _load(place: Any, ready: dict[str, Any], how: int) -> list[str]:
    """Send from a few threads, signal in the middle; the entry of every answer that came."""
    entries: list[str] = []

    def work() -> None:
        caller = Caller(ready, keep=True)
        try:
            while True:
                status, entry, _ = caller.send()
                if status == 200:
                    entries.append(entry)
        except (OSError, http.client.HTTPException):
            caller.connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    place.running[-1].send_signal(how)
    for thread in threads:
        thread.join(timeout=20)
    assert len(entries) > 20
    return entries


def _all_there(place: Any, entries: list[str]) -> None:
    from keepstone.ledger import LedgerReader
    from keepstone.workspace.history import find_entry

    assert place.json("ledger", "verify")["status"] == "verified"
    with LedgerReader.open(place.workspace / "ledger" / "ledger.db") as reader:
        for entry in entries:
            find_entry(reader, entry)


def test_plain_http_needs_a_reason_and_loopback(
    place: Any, error_code: Callable[[Any], str]
) -> None:
    far = place.run("up", place.model, "--host", "192.0.2.7", "--unsafe-plain-http", "bench")
    assert (far.returncode, error_code(far)) == (2, "serve.plain_http")
    ready = place.up("--unsafe-plain-http", "a benchmark")
    (served,) = _events(place, "served")
    assert ready["url"].startswith("http://127.0.0.1:")
    assert served["unsafe_plain_http"] == "a benchmark"
    assert "limits" not in served


def test_which_roles_may_ask_more_is_recorded_as_it_comes_into_force(place: Any) -> None:
    place.must("init")
    with (place.workspace / "policy.toml").open("a") as policy:
        policy.write("\n[limits.roles.red-team]\nper_second = 5000\nburst = 10000\n")
    place.up()
    (served,) = _events(place, "served")
    assert served["limits"] == {"red-team": {"per_second": 5000, "burst": 10000}}


def _events(place: Any, event: str) -> list[dict[str, Any]]:
    entries = place.json("ledger", "tail")["entries"]
    return [entry for entry in entries if entry.get("event") == event]


def test_a_port_in_use_is_said_before_anything_is_done(
    place: Any, error_code: Callable[[Any], str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = place.run("up", place.model, "--port", taken.getsockname()[1])

    assert (done.returncode, error_code(done)) == (3, "server.port_in_use")
    assert len(place.json("ledger", "tail")["entries"]) == 1


def test_production_waits_for_its_approval(place: Any, error_code: Callable[[Any], str]) -> None:
    place.must("init", "--profile", "production")
    refused = place.run("up", place.model, "--port", 0)
    explained = place.run("policy", "explain", "scale")

    assert (refused.returncode, error_code(refused)) == (1, "gate.denied")
    assert explained.returncode == 1
    assert "require.approval" in explained.stdout
    assert "keepstone approve scale --as KEY" in explained.stdout
    assert os.listdir(place.workspace / "staging") == []


def _bad_models(root: Path) -> dict[str, tuple[bytes | None, int, str]]:
    whole = (root / "scale.onnx").read_bytes()
    return {
        "missing": (None, 2, "model.missing"),
        "empty": (b"", 2, "model.empty"),
        "truncated": (whole[:-20], 1, "gate.denied"),
        "text": (b"hello, I am no model\n" * 9, 3, "runtime.missing"),
        "safetensors": (b"\x02\0\0\0\0\0\0\0{}", 2, "contract.missing"),
        "pickle": (b"cos\nsystem\n(S'true'\ntR.", 1, "gate.denied"),
    }


@pytest.mark.parametrize("name", ["missing", "empty", "truncated", "text", "safetensors", "pickle"])
def test_a_bad_model_ends_with_its_code(
    place: Any, name: str, error_code: Callable[[Any], str]
) -> None:
    data, status, code = _bad_models(place.root)[name]
    model = place.root / f"{name}.bin"
    if data is not None:
        model.write_bytes(data)
    done = place.run("up", model, "--port", 0)

    assert (done.returncode, error_code(done)) == (status, code), done.stderr
    assert place.json("ledger", "verify")["status"] == "verified"


def test_a_contract_beside_the_model_is_served_and_held_to(place: Any) -> None:
    """The real scanner, the real gate: ranges that lie in a file of the artifact."""
    ends = {"datatype": "FP32", "shape": [-1, 3]}
    said = {
        "schema": "keepstone.contract/v1",
        "inputs": [{"name": "x", **ends, "low": 0, "high": 2}],
        "outputs": [{"name": "y", **ends}],
    }
    (place.root / "contract.json").write_text(json.dumps(said))
    ready = place.up("--contract", "contract.json")
    status, _, answer = Caller(ready).send()
    assert (status, json.loads(answer)["code"]) == (400, "request.out_of_range")
    assert "ranges: not declared" not in (place.root / "up.log").read_text()


def test_an_architecture_for_a_model_that_brings_its_own_ends_it(
    place: Any, error_code: Callable[[Any], str]
) -> None:
    done = place.run("up", place.model, "--port", 0, "--architecture", "os:system")
    assert (done.returncode, error_code(done)) == (2, "model.no_architecture"), done.stderr
