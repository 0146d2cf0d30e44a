"""MLServer with a small runtime of its own kind, no worker pool, no security.

usage: mlserver_peer.py MODEL PORT FOLDER: writes settings into FOLDER and starts MLServer there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if __name__ != "__main__":
    import numpy as np
    import onnxruntime as ort
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceRequest, InferenceResponse

    NAMES = ["label", "probabilities"]

    class Digits(MLModel):
        async def load(self) -> bool:
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            self._session = ort.InferenceSession(
                self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
            )
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            inputs = {
                each.name: NumpyCodec.decode_input(each).astype(np.float32)
                for each in payload.inputs
            }
            outputs = self._session.run(NAMES, inputs)
            return InferenceResponse(
                model_name=self.name,
                outputs=[
                    NumpyCodec.encode_output(name, value)
                    for name, value in zip(NAMES, outputs, strict=True)
                ],
            )


def main(model: str, port: str, folder: str) -> None:
    root = Path(folder)
    first = int(port)
    settings = {
        "host": "127.0.0.1",
        "http_port": first,
        "grpc_port": first + 1,
        "metrics_port": first + 2,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
        "use_structured_logging": False,
    }
    (root / "settings.json").write_text(json.dumps(settings))
    described = {
        "name": "digits",
        "implementation": "mlserver_peer.Digits",
        "parameters": {"uri": model},
    }
    (root / "model-settings.json").write_text(json.dumps(described))
    (root / "mlserver_peer.py").write_bytes(Path(__file__).read_bytes())
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", folder])


if __name__ == "__main__":
    main(*sys.argv[1:])
