"""Our own endpoint without any security: the least that serves the same predictions.

Plain uvicorn (uvloop, httptools), one ASGI function, msgspec and onnxruntime. What Keepstone's
guards cost is measured against this.
"""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import onnxruntime as ort
import uvicorn

NAMES = ["label", "probabilities"]
DTYPES = {"label": "INT64", "probabilities": "FP32"}
PATH = b"/v2/models/digits/infer"


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(msgspec.Struct):
    inputs: list[Tensor]


decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode


def make_app(model: str):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    run = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run

    async def app(scope, receive, send):
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        if scope["raw_path"] != PATH:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        inputs = {
            t.name: np.array(t.data, np.float32).reshape(t.shape) for t in decode(body).inputs
        }
        outputs = [
            {"name": name, "datatype": DTYPES[name], "shape": v.shape, "data": v.ravel().tolist()}
            for name, v in zip(NAMES, run(NAMES, inputs), strict=True)
        ]
        answer = encode({"model_name": "digits", "model_version": "1", "outputs": outputs})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(sys.argv[1]),
        port=int(sys.argv[2]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
