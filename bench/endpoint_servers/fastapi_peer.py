"""FastAPI as its documentation begins: a pydantic body, an async function, uvicorn. No security."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

NAMES = ["label", "probabilities"]

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Tensor]


@app.post("/v2/models/digits/infer")
async def infer(request: Request):
    inputs = {t.name: np.array(t.data, np.float32).reshape(t.shape) for t in request.inputs}
    outputs = session.run(NAMES, inputs)
    return {
        "model_name": "digits",
        "outputs": [
            {"name": name, "shape": list(v.shape), "data": v.ravel().tolist()}
            for name, v in zip(NAMES, outputs, strict=True)
        ],
    }


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), access_log=False, log_level="warning")
