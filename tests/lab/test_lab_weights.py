"""Weights that were trained are opened again by the code that they were trained with."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.contract.onnx import CONTRACT_KEY
from keepstone.contract.schema import DType, ModelContract, TensorSpec, parse_contract
from keepstone.errors import InputError, OperationalError
from keepstone.lab.defences.adversarial_training import FastTraining, Schedule, Trades, harden
from keepstone.lab.defences.dp_sgd import DpSgd
from keepstone.lab.defences.weights import weights_of
from keepstone.lab.domain import Domain
from keepstone.vault.load.safetensors import read_header

Need = Callable[[str], ModuleType]
DOMAIN = Domain.of((4,), 0.0, 1.0)
CONTRACT = ModelContract(
    (TensorSpec("x", DType.FP32, (-1, 4), low=0.0, high=1.0),),
    (TensorSpec("scores", DType.FP32, (-1, 2)),),
    architecture="nets:Net",
)


def test_the_file_is_what_safetensors_reads_and_our_own_reader_takes(need_module: Need) -> None:
    torch = need_module("torch")
    load = need_module("safetensors.torch").load
    from torch import nn

    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2).half())
    module.register_buffer("flags", torch.tensor([True, False, True]))
    module.register_buffer("one", torch.tensor(2.5, dtype=torch.float64))
    module.register_buffer("none", torch.zeros(0, 3))
    # Not in one piece of memory, as a transposed weight is.
    module.register_buffer("turned", torch.arange(6, dtype=torch.int64).reshape(2, 3).t())
    data = weights_of(module, CONTRACT)
    wanted = module.state_dict()
    found = load(data)
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    header = read_header(memoryview(data))
    assert parse_contract(header.metadata[CONTRACT_KEY]) == CONTRACT
    # Mapped tensors begin where their type may.
    sizes = {one.name: wanted[one.name].element_size() for one in header.tensors}
    assert all(one.begin % sizes[one.name] == 0 for one in header.tensors)
    assert weights_of(module, CONTRACT) == data


def test_weights_that_the_format_has_no_name_for_are_refused(need_module: Need) -> None:
    torch = need_module("torch")
    module = torch.nn.Linear(2, 2)
    module.register_buffer("odd", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(InputError, match=r"defence\.unwritable"):
        weights_of(module, CONTRACT)


# What a module may say: logits, probabilities, one score of two classes.


def blobs(count: int = 200) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, count)
    x = 0.5 + np.where(y[:, None] == 1, 0.2, -0.2) + rng.normal(0, 0.05, (count, 4))
    return x.clip(0, 1), y


def modules() -> dict[str, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return {
        "logits": nn.Linear(4, 2),
        "probabilities": nn.Sequential(nn.Linear(4, 2), nn.Softmax(1)),
        "one probability": nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()),
        "one score": nn.Linear(4, 1),
    }


@pytest.mark.parametrize("says", ["logits", "probabilities", "one probability", "one score"])
@pytest.mark.parametrize("trains", ["fast", "trades", "private"])
def test_modules_are_trained_by_what_they_mean(need_module: Need, says: str, trains: str) -> None:
    need_module("torch")
    (x, y), module = blobs(), modules()[says]
    if trains == "private":
        made = DpSgd(noise=0.2, steps=40, speed=0.1).train(module, x, y, DOMAIN, 0)
    else:
        lesson = FastTraining(0.05) if trains == "fast" else Trades(0.05, steps=2)
        made = harden(lesson, module, x, y, DOMAIN, schedule=Schedule(15, 64, 0.1))
    assert (made.predict(DOMAIN.fit(x, x)).labels == y).mean() > 0.95


def test_a_module_that_fails_while_it_is_trained_is_no_fault_of_ours(need_module: Need) -> None:
    torch = need_module("torch")

    class Broken(torch.nn.Linear):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            if self.training:
                raise KeyError("no such thing")
            return super().forward(x)

    x, y = blobs()
    with pytest.raises(OperationalError, match=r"runtime\.failed"):
        harden(FastTraining(0.05), Broken(4, 2), x, y, DOMAIN)
    with pytest.raises(OperationalError, match=r"runtime\.failed"):
        DpSgd(steps=1).train(Broken(4, 2), x, y, DOMAIN, 0)


def test_weights_that_are_no_numbers_at_the_end_are_no_model(need_module: Need) -> None:
    torch = need_module("torch")
    x, y = blobs(64)
    module = torch.nn.Linear(4, 2)
    module.register_parameter("idle", torch.nn.Parameter(torch.tensor(float("nan"))))
    with pytest.raises(OperationalError, match=r"defence\.diverged"):
        harden(FastTraining(0.05), module, x, y, DOMAIN, schedule=Schedule(1, 64, 0.1))
