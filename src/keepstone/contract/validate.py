"""Checking a tensor against its spec: type, shape, finiteness and range, in a few microseconds.

A check is compiled once per spec. The usual case, a valid tensor, costs two passes over its
elements; only a refusal pays for finding out why.
"""

from __future__ import annotations

from collections.abc import Callable
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

_minimum: Callable[..., Any] = np.minimum.reduce
_maximum: Callable[..., Any] = np.maximum.reduce


class TensorCheck:
    """One spec, ready to check arrays. Calling it returns nothing or raises InputError.

    (1) element type, (2) number of axes and each length, no axis empty, (3) no NaN or infinity,
    (4) every element within the declared range, whose bounds are first rounded to the element
    type as the tensor itself was.

    Raises `request.bad_dtype`, `request.bad_shape`, `request.not_finite`,
    `request.out_of_range`.
    """

    __slots__ = ("_dtype", "_high", "_is_float", "_low", "_scalar", "_tail", "spec")

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self._dtype = NUMPY[spec.datatype]
        self._is_float = spec.datatype.is_float
        only_first_is_free = bool(spec.shape) and spec.shape[0] == ANY and ANY not in spec.shape[1:]
        self._tail = spec.shape[1:] if only_first_is_free else None
        self._low = self._bound(spec.low, lowest=True)
        self._high = self._bound(spec.high, lowest=False)
        bounds = (self._low, self._high)
        self._scalar = all(isinstance(bound, float | int) for bound in bounds)

    def _bound(self, bound: Bound, *, lowest: bool) -> Any:
        if bound is None:
            return None
        if not self._is_float:
            return np.asarray(bound, np.float64) if isinstance(bound, tuple) else bound
        with np.errstate(over="ignore"):
            rounded = np.asarray(bound, self._dtype)
        # A low of -infinity or a high of infinity would let that infinity pass.
        limits = np.finfo(self._dtype)
        rounded = np.maximum(rounded, limits.min) if lowest else np.minimum(rounded, limits.max)
        return rounded if isinstance(bound, tuple) else float(rounded)

    def __call__(self, array: Array) -> None:
        # (1)
        if array.dtype is not self._dtype and array.dtype != self._dtype:
            raise self._bad_dtype(array)
        # (2)
        shape = array.shape
        if not (self._tail is not None and len(shape) != 0 and shape[1:] == self._tail):
            self._check_shape(shape)
        if array.size == 0:
            raise self._bad_shape(shape)
        # (3), (4): NaN survives min and max and fails both comparisons; so do the infinities.
        if self._scalar:
            # item(): comparing Python's numbers is far quicker than numpy's scalars.
            if (
                self._low <= _minimum(array, axis=None).item()
                and self._high >= _maximum(array, axis=None).item()
            ):
                return
            self._check_finite(array)
            raise self._out_of_range()
        if self._is_float:
            self._check_finite(array)
        if self._low is not None and not (array >= self._low).all():
            raise self._out_of_range()
        if self._high is not None and not (array <= self._high).all():
            raise self._out_of_range()

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        wanted = self.spec.shape
        if len(shape) != len(wanted):
            raise self._bad_shape(shape)
        for length, want in zip(shape, wanted, strict=True):
            if want not in (ANY, length):
                raise self._bad_shape(shape)

    def _check_finite(self, array: Array) -> None:
        if self._is_float and not np.isfinite(array).all():
            raise InputError(
                "request.not_finite", f"Input {self.spec.name!r} holds a NaN or an infinity."
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

    def _out_of_range(self) -> InputError:
        return InputError(
            "request.out_of_range", f"Input {self.spec.name!r} leaves its declared range."
        )


def validate_tensor(spec: TensorSpec, array: Array) -> None:
    """Check one array once; keep a `TensorCheck` where many follow."""
    TensorCheck(spec)(array)
