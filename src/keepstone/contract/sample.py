"""A request that a contract accepts: something to try an endpoint with, not a meaningful input."""

from __future__ import annotations

import json
from typing import Any

from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec


def sample_request(contract: ModelContract) -> bytes:
    """An Open Inference Protocol v2 request in JSON with one item per open axis.

    Numbers lie in the middle of their declared range, or are 0 where none is declared.
    """
    inputs = [_tensor(spec) for spec in contract.inputs]
    return json.dumps({"inputs": inputs}, separators=(",", ":")).encode()


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [1 if length == ANY else length for length in spec.shape]
    count = 1
    for length in shape:
        count *= length
    width = shape[-1] if shape else 1
    values = [_value(spec, column) for column in range(width)]
    return {
        "name": spec.name,
        "shape": shape,
        "datatype": spec.datatype.value,
        "data": values * (count // width),
    }


def _value(spec: TensorSpec, column: int) -> Any:
    if spec.datatype is DType.BYTES:
        return "text"
    if spec.datatype is DType.BOOL:
        return False
    low, high = _bound(spec.low, column), _bound(spec.high, column)
    if low is None and high is None:
        middle = 0.0
    elif low is None or high is None:
        middle = high if low is None else low  # type: ignore[assignment]  # one of them is set
    else:
        middle = low + (high - low) / 2
    return middle if spec.datatype.is_float else int(middle)


def _bound(bound: float | tuple[float, ...] | None, column: int) -> float | None:
    return bound[column] if isinstance(bound, tuple) else bound
