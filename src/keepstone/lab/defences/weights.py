"""The weights of a module: begun anew, and as a safetensors file with the model's contract inside.

Promise: the tensors have the names, shapes and types of the module's own, so that the code that
the module was made by opens them again; the same bytes for the same weights.

Source: https://github.com/huggingface/safetensors (format). Blind spots: weights that a module
uses under two names are written twice, and are two when they are read. Whether a module begins anew
is seen in its weights and buffers alone: not in what its code holds elsewhere, nor where a
checkpoint is mixed with draws.
"""

from __future__ import annotations

import json
from typing import Any

from keepstone.contract.onnx import CONTRACT_KEY
from keepstone.contract.schema import ModelContract
from keepstone.errors import InputError
from keepstone.lab.targets.torch import its_own
from keepstone.vault.load.torch import DTYPES

# Readers map the tensors; they begin where every type may.
_ALIGNED = 8


def begun_anew(module: Any, seed: int) -> Any:
    """Another of the module's class, made without arguments, its weights drawn by `seed`.

    What the module was trained on is not in it. A constructor may load a checkpoint: weights or
    buffers that are the same whatever the seed, and not one number throughout as the scales of a
    normalisation are, raise InputError `defence.unfit`. Raises OperationalError `runtime.failed`.
    """
    import torch

    made, other = _made(module, seed), _made(module, seed ^ 1)
    others = dict(_tensors(other))
    for name, one in _tensors(made):
        same = name in others and torch.equal(one, others[name])
        if same and one.numel() and bool((one != one.flatten()[0]).any()):
            raise InputError(
                "defence.unfit",
                f"The model does not begin anew: its {name[:100]!r} is the same whatever the seed,"
                " so it may know the rows.",
                "Give code that draws its weights and loads none.",
            )
    return made


def _made(module: Any, seed: int) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]), its_own():
        torch.manual_seed(seed)
        return type(module)()


def _tensors(module: Any) -> list[tuple[str, Any]]:
    return [*module.named_parameters(), *module.named_buffers()]


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
