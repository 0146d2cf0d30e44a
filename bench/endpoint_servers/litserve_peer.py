"""LitServe as its documentation begins: one API, one worker, no security."""

from __future__ import annotations

import sys

import litserve
import numpy as np
import onnxruntime as ort

NAMES = ["label", "probabilities"]


class Digits(litserve.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            sys.argv[1], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request):
        return {
            t["name"]: np.array(t["data"], np.float32).reshape(t["shape"])
            for t in request["inputs"]
        }

    def predict(self, inputs):
        return self.session.run(NAMES, inputs)

    def encode_response(self, outputs):
        return {
            "model_name": "digits",
            "outputs": [
                {"name": name, "shape": list(v.shape), "data": v.ravel().tolist()}
                for name, v in zip(NAMES, outputs, strict=True)
            ],
        }


if __name__ == "__main__":
    api = Digits(api_path="/v2/models/digits/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        port=int(sys.argv[2]),
        host="127.0.0.1",
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
