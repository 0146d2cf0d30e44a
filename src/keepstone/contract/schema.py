"""What a model accepts and returns, as data.

A contract is *declared* (its author wrote it, with ranges and feature names) or *derived* (read
off the graph: names, types and shapes, no ranges). It has one canonical byte string and so one
digest, which an admission binds. Where weights alone say nothing of what computes with them, it
names that too: the architecture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, cast

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import Digest
from keepstone.errors import InputError

SCHEMA = "keepstone.contract/v1"
ANY = -1

MAX_DOCUMENT = 4 << 20
MAX_TENSORS = 64
MAX_RANK = 8
MAX_FEATURES = 65_536
MAX_NAME = 256
MAX_DIMENSION = 2**31 - 1

_ARCHITECTURE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")

Bound = float | tuple[float, ...] | None
Source = Literal["declared", "derived"]


class DType(StrEnum):
    """Element types by their Open Inference Protocol names."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def size(self) -> int | None:
        """Bytes per element, or None for BYTES, whose elements carry their own length."""
        return _SIZES[self]

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_number(self) -> bool:
        return self is not DType.BOOL and self is not DType.BYTES


_FLOATS = frozenset({DType.FP16, DType.FP32, DType.FP64})
_SIZES: dict[DType, int | None] = {
    DType.BOOL: 1,
    DType.UINT8: 1,
    DType.UINT16: 2,
    DType.UINT32: 4,
    DType.UINT64: 8,
    DType.INT8: 1,
    DType.INT16: 2,
    DType.INT32: 4,
    DType.INT64: 8,
    DType.FP16: 2,
    DType.FP32: 4,
    DType.FP64: 8,
    DType.BYTES: None,
}


def _bad(cause: str) -> InputError:
    return InputError("contract.malformed", cause)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    `shape` holds a length per axis, -1 where any length goes. `low` and `high` are inclusive:
    one number for all elements, one per feature (the last axis), or None where not declared.
    `features` names the last axis, or is empty. Raises InputError `contract.malformed`.
    """

    name: str
    datatype: DType
    shape: tuple[int, ...]
    low: Bound = None
    high: Bound = None
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name, "tensor")
        if len(self.shape) > MAX_RANK:
            raise _bad(f"Tensor {self.name!r} has more than {MAX_RANK} axes.")
        if not all(d == ANY or 0 < d <= MAX_DIMENSION for d in self.shape):
            raise _bad(f"Tensor {self.name!r} has an axis that is neither -1 nor positive.")
        self._check_features()
        self._check_bounds()

    def _check_features(self) -> None:
        if not self.features:
            return
        for feature in self.features:
            _check_name(feature, "feature")
        if len(set(self.features)) != len(self.features):
            raise _bad(f"Tensor {self.name!r} names one feature twice.")
        self._check_per_feature(len(self.features), "feature names")

    def _check_per_feature(self, count: int, what: str) -> None:
        if count > MAX_FEATURES:
            raise _bad(f"Tensor {self.name!r} has more than {MAX_FEATURES} {what}.")
        if not self.shape or self.shape[-1] != count:
            raise _bad(f"Tensor {self.name!r} has {count} {what}, its last axis differs.")

    def _check_bounds(self) -> None:
        for bound in (self.low, self.high):
            if bound is None:
                continue
            if not self.datatype.is_number:
                raise _bad(f"Tensor {self.name!r} is {self.datatype} and can have no range.")
            if isinstance(bound, tuple):
                self._check_per_feature(len(bound), "bounds")
            if not all(math.isfinite(value) for value in _values(bound)):
                raise _bad(f"Tensor {self.name!r} has a bound that is not finite.")
        if self.low is None or self.high is None:
            return
        low, high = _values(self.low), _values(self.high)
        width = max(len(low), len(high))
        spread = zip(low * (width // len(low)), high * (width // len(high)), strict=True)
        if any(a > b for a, b in spread):
            raise _bad(f"Tensor {self.name!r} has a low above its high.")

    @property
    def ranges_declared(self) -> bool:
        """True where both ends of the range are declared."""
        return self.low is not None and self.high is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for canonical JSON; bounds are decimal strings, which print one way."""
        plain: dict[str, Any] = {
            "name": self.name,
            "datatype": str(self.datatype),
            "shape": list(self.shape),
        }
        if self.low is not None:
            plain["low"] = _write_bound(self.low)
        if self.high is not None:
            plain["high"] = _write_bound(self.high)
        if self.features:
            plain["features"] = list(self.features)
        return plain

    @classmethod
    def from_dict(cls, value: object) -> TensorSpec:
        """Read what `to_dict` writes; unknown members are refused."""
        plain = _object(value, "A tensor")
        _only(plain, {"name", "datatype", "shape", "low", "high", "features"})
        shape = _list(plain.get("shape"), "shape")
        if not all(type(d) is int for d in shape):
            raise _bad("A shape holds something other than integers.")
        datatype = plain.get("datatype")
        if not isinstance(datatype, str) or datatype not in DType.__members__:
            raise _bad(f"{datatype!r} is not a datatype of the Open Inference Protocol.")
        return cls(
            name=_text(plain.get("name"), "name"),
            datatype=DType(datatype),
            shape=tuple(cast("list[int]", shape)),
            low=_read_bound(plain.get("low")),
            high=_read_bound(plain.get("high")),
            features=tuple(
                _text(f, "feature") for f in _list(plain.get("features", []), "features")
            ),
        )


@dataclass(frozen=True, slots=True)
class ModelContract:
    """Every input and output of a model. `source` says who stated it. Compared by value.

    `architecture` is `package.module:Class`, the code that the weights are loaded into, where
    the format is weights alone; else None.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    source: Source = "declared"
    architecture: str | None = None

    def __post_init__(self) -> None:
        if self.architecture is not None:
            check_architecture(self.architecture)
        if self.source not in ("declared", "derived"):
            raise _bad(f"{self.source!r} is neither declared nor derived.")
        for side, specs in (("input", self.inputs), ("output", self.outputs)):
            if not 0 < len(specs) <= MAX_TENSORS:
                raise _bad(f"A contract needs 1 to {MAX_TENSORS} {side}s.")
            if len({spec.name for spec in specs}) != len(specs):
                raise _bad(f"A contract names one {side} twice.")

    @property
    def ranges_declared(self) -> bool:
        """True where every numeric input declares both ends of its range."""
        return all(spec.ranges_declared for spec in self.inputs if spec.datatype.is_number)

    def to_json(self) -> bytes:
        """The canonical bytes, which the digest covers."""
        plain: dict[str, Any] = {
            "schema": SCHEMA,
            "source": self.source,
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }
        if self.architecture is not None:
            plain["architecture"] = self.architecture
        return canonical(plain)

    @property
    def digest(self) -> Digest:
        return Digest.of(self.to_json())


def parse_contract(data: bytes | str) -> ModelContract:
    """Read a contract. Raises InputError `json.*`, `contract.malformed`, `contract.newer_version`.

    Bounds may be numbers or decimal strings; everything else is as `to_json` writes it.
    """
    plain = _object(parse_json(data, limit=MAX_DOCUMENT), "A contract")
    schema = plain.get("schema")
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith("keepstone.contract/"):
            raise InputError(
                "contract.newer_version",
                f"The contract's format is {schema!r}; this version reads {SCHEMA!r}.",
                "Upgrade Keepstone.",
            )
        raise _bad(f"The document is not a {SCHEMA}.")
    _only(plain, {"schema", "source", "inputs", "outputs", "architecture"})
    source = _text(plain.get("source", "declared"), "source")
    architecture = plain.get("architecture")
    return ModelContract(
        inputs=tuple(TensorSpec.from_dict(t) for t in _list(plain.get("inputs"), "inputs")),
        outputs=tuple(TensorSpec.from_dict(t) for t in _list(plain.get("outputs"), "outputs")),
        source=cast("Source", source),
        architecture=None if architecture is None else _text(architecture, "architecture"),
    )


def check_architecture(text: str) -> str:
    """Return `text` if it is `package.module:Class`, else raise InputError `contract.malformed`."""
    if len(text) > MAX_NAME or not _ARCHITECTURE.match(text):
        raise _bad(f"{text[:60]!r} is not an architecture: write package.module:Class.")
    return text


def _check_name(name: str, what: str) -> None:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise _bad(f"A {what} name is not 1 to {MAX_NAME} printable characters.")


def _values(bound: float | tuple[float, ...]) -> tuple[float, ...]:
    return bound if isinstance(bound, tuple) else (bound,)


def _write_bound(bound: float | tuple[float, ...]) -> str | list[str]:
    # Adding 0.0 turns -0.0 into 0.0, so that equal contracts have equal bytes.
    if isinstance(bound, tuple):
        return [repr(float(value) + 0.0) for value in bound]
    return repr(float(bound) + 0.0)


def _read_bound(value: object) -> Bound:
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(_read_number(item) for item in value)
    return _read_number(value)


def _read_number(value: object) -> float:
    if isinstance(value, str):
        if len(value) > 32 or not _DECIMAL.match(value):
            raise _bad(f"{value[:32]!r} is not a decimal number.")
    elif type(value) not in (int, float):
        raise _bad("A bound is neither a number nor a decimal string.")
    try:
        return float(cast("float | str", value))
    except OverflowError as error:
        raise _bad("A bound is too large.") from error


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"{what} is not a JSON object.")
    return value


def _list(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise _bad(f"{what!r} is not a list.")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _bad(f"{what!r} is not a string.")
    return value


def _only(plain: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(plain) - known)
    if unknown:
        raise _bad(f"The contract has an unknown member {unknown[0]!r}.")
