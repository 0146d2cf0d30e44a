"""Clients and servers that others wrote: Triton's client in a process of its own, stock uvicorn."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import uvicorn

pytestmark = pytest.mark.loopback

# gevent takes over a process's sockets, so the client runs in one of its own.
TRITON = """
import json, sys
import numpy as np
import tritonclient.http as triton

port, key = sys.argv[1:]
client = triton.InferenceServerClient(f"127.0.0.1:{port}")
# A fresh dictionary per call: the client leaves its own headers in the one it is given.
headers = {"Authorization": "Bearer " + key}
rows = np.array([[1.5, -2], [3, 4]], np.float32)
found = {"live": client.is_server_live(), "unready": client.is_server_ready()}
found["ready"] = client.is_server_ready(headers=headers)
for name, binary_in, binary_out in (
    ("json", False, False), ("binary", True, True), ("in", True, False), ("out", False, True)
):
    sent = triton.InferInput("x", rows.shape, "FP32")
    sent.set_data_from_numpy(rows, binary_data=binary_in)
    wanted = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    answer = client.infer("double", [sent], outputs=wanted, headers=dict(headers), request_id="r7")
    found[name] = answer.as_numpy("y").tolist()
    found[name + " id"] = answer.get_response()["id"]
every = client.infer("double", [sent], headers=dict(headers))
found["every"] = every.as_numpy("y").tolist()
versioned = client.infer("double", [sent], model_version="1", headers=dict(headers))
found["versioned"] = versioned.as_numpy("y").tolist()
try:
    client.infer("double", [sent])
except triton.InferenceServerException as error:
    found["refused"] = [error.status(), error.message()]
print(json.dumps(found))
"""


def test_tritons_client_gets_predictions(make, serve):
    world = make()
    running = serve(world)
    child = subprocess.run(
        [sys.executable, "-c", TRITON, str(running.port), world.key],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    doubled = [[3.0, -4.0], [6.0, 8.0]]
    found = json.loads(child.stdout)
    assert found.pop("refused") == ["401", "auth.missing: No credential was sent."]
    assert found == {
        "live": True,
        "unready": False,
        "ready": True,
        **dict.fromkeys(("json", "binary", "in", "out", "every", "versioned"), doubled),
        **{f"{name} id": "r7" for name in ("json", "binary", "in", "out")},
    }
    assert len(world.log.entries()) == 6


def test_tritons_client_reads_metadata(make, serve):
    world = make()
    running = serve(world)
    script = (
        "import sys, json, tritonclient.http as t\n"
        "c = t.InferenceServerClient('127.0.0.1:' + sys.argv[1])\n"
        "h = {'X-API-Key': sys.argv[2]}\n"
        "print(json.dumps([c.get_server_metadata(headers=h),"
        " c.get_model_metadata('double', headers=h), c.is_model_ready('double', headers=h)]))"
    )
    reader = world.mint("reader")
    child = subprocess.run(
        [sys.executable, "-c", script, str(running.port), reader],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    server, model, ready = json.loads(child.stdout)
    assert server["extensions"] == ["binary_tensor_data"]
    assert model["inputs"][0]["shape"] == [-1, 2]
    assert ready is True


def test_a_stock_server_runs_the_same_application(make):
    """Nothing but speed and the limits on connections depends on our own protocol."""
    world = make()
    body = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'

    async def main():
        config = uvicorn.Config(
            world.gateway, port=0, http="httptools", lifespan="on", log_config=None, ws="none"
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        replies = await asyncio.to_thread(_ask, port, body, [world.key, "ks_wrong"])
        server.should_exit = True
        await serving
        return replies

    good, bad = asyncio.run(main())
    assert good[0] == 200
    assert json.loads(good[1])["outputs"][0]["data"] == [2.0, 4.0]
    assert bad[0] == 401
    assert len(world.log.entries()) == 1
    assert world.log.subscribers == []


def _ask(port, body, keys):
    replies = []
    for key in keys:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v2/models/double/infer",
            body,
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                replies.append((answer.status, answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                replies.append((error.code, error.read()))
    return replies
