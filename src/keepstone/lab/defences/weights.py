"""The weights of a module as a safetensors file, with the model's contract inside.

Promise: the tensors have the names, shapes and types of the module's own, so that the code that
the module was made by opens them again; the same bytes for the same weights.

Source: https://github.com/huggingface/safetensors (format). Blind spots: weights that a module
uses under two names are written twice, and are two when they are read.
"""

from __future__ import annotations

import json
from typing import Any

from keepstone.contract.onnx import CONTRACT_KEY
from keepstone.contract.schema import ModelContract
from keepstone.errors import InputError
from keepstone.vault.load.torch import DTYPES

# Readers map the tensors; they begin where every type may.
_ALIGNED = 8


def weights_of(module: Any, contract: ModelContract) -> bytes:
    """A file of the module's weights and buffers.

    Raises InputError `defence.unwritable` for a type that the format does not have.
    """
    import torch

    kinds = {getattr(torch, name): shown for shown, name in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {CONTRACT_KEY: contract.to_json().decode()}}
    parts: list[bytes] = []
    at = 0
    # The widest first: each tensor then begins at a multiple of its element's size.
    state = module.state_dict().items()
    for name, tensor in sorted(state, key=lambda one: (-one[1].element_size(), one[0])):
        if tensor.dtype not in kinds:
            raise InputError(
                "defence.unwritable",
                f"safetensors has no name for {tensor.dtype}, as the weights {name[:100]!r} are.",
            )
        data = bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        parts.append(data)
        header[name] = {
            "dtype": kinds[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(data)],
        }
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)
