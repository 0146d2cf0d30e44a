"""What the vault's tests share: a store, a key, and small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keepstone.vault.keks.file import FileKek
from keepstone.vault.stores.files import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "vault")


@pytest.fixture
def kek() -> FileKek:
    return FileKek.of(bytes(range(32)))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """`onnx_file(factor=3)` writes y = factor * x with three features and returns its path."""

    def write(name: str = "model.onnx", factor: float = 2.0) -> Path:
        weight = numpy_helper.from_array(np.full((1, 3), factor, np.float32), "w")
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "w"], ["y"])],
            "scale",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(model)
        return path

    return write
