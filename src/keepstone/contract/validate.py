"""Checking a tensor against its spec: type, shape, finiteness and range, in a few microseconds.

A check is compiled once per spec. The usual case, a valid tensor, costs two passes over its
elements; only a refusal pays for finding out why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepstone.contract.schema import ANY, Bound, DType, TensorSpec
from keepstone.errors import InputError

Array = NDArray[Any]

# Little-endian by name: the wire format is, and on such machines these are the native types.
NUMPY: dict[DType, np.dtype[Any]] = {
    DType.BOOL: np.dtype(np.bool_),
    DType.UINT8: np.dtype("<u1"),
    DType.UINT16: np.dtype("<u2"),
    DType.UINT32: np.dtype("<u4"),
    DType.UINT64: np.dtype("<u8"),
    DType.INT8: np.dtype("<i1"),
    DType.INT16: np.dtype("<i2"),
    DType.INT32: np.dtype("<i4"),
    DType.INT64: np.dtype("<i8"),
    DType.FP16: np.dtype("<f2"),
    DType.FP32: np.dtype("<f4"),
    DType.FP64: np.dtype("<f8"),
    DType.BYTES: np.dtype(object),
}


class TensorCheck:
    """One spec, ready to check arrays. Calling it returns nothing or raises InputError.

    (1) element type, (2) number of axes and each length, no axis empty, (3) no NaN or infinity,
    (4) every element within the declared range, whose bounds are first rounded to the element
    type as the tensor itself was.

    Raises `request.bad_dtype`, `request.bad_shape`, `request.not_finite`,
    `request.out_of_range`.
    """

    __slots__ = ("_ceiling", "_dtype", "_floor", "_highs", "_is_float", "_lows", "_tail", "spec")

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self._dtype = NUMPY[spec.datatype]
        self._is_float = spec.datatype.is_float
        only_first_is_free = bool(spec.shape) and spec.shape[0] == ANY and ANY not in spec.shape[1:]
        self._tail = spec.shape[1:] if only_first_is_free else None
        # One number for all elements, which for floats is never infinite; None checks nothing.
        self._floor, self._lows = self._bounds(spec.low, lowest=True)
        self._ceiling, self._highs = self._bounds(spec.high, lowest=False)

    def _bounds(self, bound: Bound, *, lowest: bool) -> tuple[float | None, Array | None]:
        """The bound as one number for all elements, and as one per feature where it is that."""
        if not self._is_float:
            if isinstance(bound, tuple):
                return None, np.asarray(bound, np.float64)
            return bound, None
        limits = np.finfo(self._dtype)
        widest = float(limits.min if lowest else limits.max)
        if bound is None:
            return widest, None
        with np.errstate(over="ignore"):
            rounded = np.asarray(bound, self._dtype)
        # A low of -infinity or a high of infinity would let that infinity pass.
        rounded = np.maximum(rounded, limits.min) if lowest else np.minimum(rounded, limits.max)
        return (widest, rounded) if isinstance(bound, tuple) else (float(rounded), None)

    def __call__(self, array: Array) -> None:
        # (1)
        if array.dtype is not self._dtype and array.dtype != self._dtype:
            raise self._bad_dtype(array)
        # (2)
        shape = array.shape
        if self._tail is None or not shape or shape[1:] != self._tail:
            self._check_shape(shape)
        if array.size == 0:
            raise self._bad_shape(shape)
        # (3), (4): argmin and argmax stop at a NaN, which is neither below nor above anything;
        # they are several times as quick as min and max.
        floor, ceiling = self._floor, self._ceiling
        if floor is not None and not array.item(array.argmin()) >= floor:
            raise self._outside(array)
        if ceiling is not None and not array.item(array.argmax()) <= ceiling:
            raise self._outside(array)
        if self._lows is not None and not (array >= self._lows).all():
            raise self._outside(array)
        if self._highs is not None and not (array <= self._highs).all():
            raise self._outside(array)

    def holds(self, shape: Sequence[int], values: Sequence[float]) -> bool:
        """Whether a float tensor of `shape`, not yet made of `values`, would pass for certain.

        `values` come from JSON, which has no NaN. False says nothing: make the tensor and check
        it. Bounds are numbers of the element type,
        so a value within them is still within them once it is rounded to that type.
        """
        floor, ceiling = self._floor, self._ceiling
        return (
            self._lows is None
            and self._highs is None
            and floor is not None
            and ceiling is not None
            and self._tail is not None
            and tuple(shape[1:]) == self._tail
            and len(values) > 0
            and floor <= min(values)
            and max(values) <= ceiling
        )

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        wanted = self.spec.shape
        if len(shape) != len(wanted):
            raise self._bad_shape(shape)
        for length, want in zip(shape, wanted, strict=True):
            if want not in (ANY, length):
                raise self._bad_shape(shape)

    def _outside(self, array: Array) -> InputError:
        if self._is_float and not np.isfinite(array).all():
            return InputError(
                "request.not_finite", f"Input {self.spec.name!r} holds a NaN or an infinity."
            )
        return InputError(
            "request.out_of_range", f"Input {self.spec.name!r} leaves its declared range."
        )

    def _bad_dtype(self, array: Array) -> InputError:
        return InputError(
            "request.bad_dtype",
            f"Input {self.spec.name!r} must be {self.spec.datatype}, not {array.dtype}.",
        )

    def _bad_shape(self, shape: tuple[int, ...]) -> InputError:
        return InputError(
            "request.bad_shape",
            f"Input {self.spec.name!r} must have the shape {list(self.spec.shape)}, "
            f"not {list(shape)}.",
        )


def validate_tensor(spec: TensorSpec, array: Array) -> None:
    """Check one array once; keep a `TensorCheck` where many follow."""
    TensorCheck(spec)(array)
