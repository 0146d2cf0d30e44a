"""Which inputs a model can be given: their shape, type and range, and what an attacker may change.

Attacks work on flat rows. What a target is asked lies in its domain, always: a meter fits every
row before it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from keepstone.contract.schema import ANY, Bound, TensorSpec
from keepstone.contract.validate import NUMPY, Array
from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.errors import InputError

# Features of one input: more is no model, but a lie that would fill the memory.
MAX_WIDTH = 1 << 24


@dataclass(frozen=True, slots=True)
class Constraints:
    """What an attacker may do to the features of a row, for data that is no picture.

    `immutable` features stay; `integer` ones stay whole; each group of `one_hot` has exactly one
    1; `direction` is +1 where a feature may only grow, -1 where it may only shrink, else 0.
    `cost` weighs each feature's change before a norm measures it.
    """

    immutable: Array
    integer: Array
    direction: Array
    one_hot: tuple[tuple[int, ...], ...] = ()
    cost: Array | None = None

    @classmethod
    def of(
        cls,
        width: int,
        *,
        immutable: Sequence[int] = (),
        integer: Sequence[int] = (),
        grows: Sequence[int] = (),
        shrinks: Sequence[int] = (),
        one_hot: Sequence[Sequence[int]] = (),
        cost: Sequence[float] | None = None,
    ) -> Constraints:
        """Features by their places. Raises InputError `attack.bad_constraint`."""
        groups = tuple(tuple(group) for group in one_hot)
        named = [*immutable, *integer, *grows, *shrinks, *(at for group in groups for at in group)]
        if any(not 0 <= at < width for at in named):
            raise _bad("names a feature that the model does not have")
        if set(grows) & set(shrinks):
            raise _bad("lets a feature only grow and only shrink")
        members = [at for group in groups for at in group]
        if len(set(members)) != len(members) or any(len(group) < 2 for group in groups):
            raise _bad("has a one-hot group of one feature, or a feature in two groups")
        weights = None if cost is None else np.asarray(cost, np.float64)
        if weights is not None and (weights.shape != (width,) or not (weights > 0).all()):
            raise _bad("does not give every feature a cost above zero")
        direction = np.zeros(width, np.int8)
        direction[list(grows)], direction[list(shrinks)] = 1, -1
        return cls(_mask(width, immutable), _mask(width, integer), direction, groups, weights)

    def to_bytes(self) -> bytes:
        """The same for the same constraints, however they were written down."""
        parts = [
            np.asarray(one).tobytes() for one in (self.immutable, self.integer, self.direction)
        ]
        cost = b"" if self.cost is None else self.cost.tobytes()
        return canonical([list(group) for group in self.one_hot]) + b"".join(parts) + cost

    @property
    def digest(self) -> Digest:
        return Digest.of(self.to_bytes())

    def fit(self, rows: Array, origin: Array) -> Array:
        """The rows nearby that an attacker can reach from `origin`."""
        found = np.where(self.immutable, origin, rows)
        found = np.where(self.direction > 0, np.maximum(found, origin), found)
        found = np.where(self.direction < 0, np.minimum(found, origin), found)
        # Away from the rounding that would undo what was held above: towards the origin.
        nearest = np.rint(found)
        back = np.where(found < origin, np.ceil(found), np.floor(found))
        whole = np.where(self.direction == 0, nearest, back)
        found = np.where(self.integer & ~self.immutable, whole, found)
        for group in self.one_hot:
            places = list(group)
            # A group with a member that must stay stays as a whole.
            if self.immutable[places].any():
                found[:, places] = origin[:, places]
                continue
            best = found[:, places].argmax(axis=1)
            found[:, places] = 0
            found[np.arange(len(found)), np.asarray(places)[best]] = 1
        return found.astype(rows.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Domain:
    """One input is `shape` elements of `dtype`, each between its `low` and `high` (flat).

    `least` and `most` are the ends that can be reached: of `dtype`, and whole where the elements
    are. Raises InputError `attack.bad_domain`, `attack.bad_constraint` where none lie between.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    low: Array
    high: Array
    constraints: Constraints | None = field(default=None, compare=False)
    least: Array = field(init=False, repr=False, compare=False)
    most: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        least, most = _reached(self.low, self.high, self.dtype, self.constraints)
        object.__setattr__(self, "least", least.astype(self.work_dtype))
        object.__setattr__(self, "most", most.astype(self.work_dtype))

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        low: Array | float,
        high: Array | float,
        dtype: str = "float32",
        constraints: Constraints | None = None,
    ) -> Domain:
        """Raises InputError `attack.bad_domain` for a range that is empty or not finite,
        `attack.bad_constraint`; `target.unsupported` for more than MAX_WIDTH elements."""
        width = prod(shape)
        if width > MAX_WIDTH:
            raise InputError(
                "target.unsupported",
                f"An input has {width} elements, and at most {MAX_WIDTH} are attacked.",
            )
        ends = [_end(bound, width) for bound in (low, high)]
        finite = np.isfinite(ends[0]).all() and np.isfinite(ends[1]).all()
        if width < 1 or not finite or (ends[0] > ends[1]).any() or (ends[0] == ends[1]).all():
            raise InputError(
                "attack.bad_domain",
                "The range of the model's inputs is empty or not finite.",
                "Give --low and --high, or declare them in the model's contract.",
            )
        if constraints is not None and len(constraints.immutable) != width:
            raise InputError(
                "attack.bad_constraint", "The constraints are of rows of another width."
            )
        return cls(tuple(shape), np.dtype(dtype), ends[0], ends[1], constraints)

    @classmethod
    def of_spec(
        cls,
        spec: TensorSpec,
        low: float | None = None,
        high: float | None = None,
        constraints: Constraints | None = None,
    ) -> Domain:
        """What a contract says of an input; `low` and `high` stand in for an undeclared range.

        Raises InputError `attack.bad_domain`, `target.unsupported`.
        """
        if ANY in spec.shape[1:]:
            raise InputError(
                "attack.bad_domain", f"The shape of {spec.name!r} is not the same for every input."
            )
        least, most = _of_bound(spec, spec.low, low), _of_bound(spec, spec.high, high)
        return cls.of(spec.shape[1:], least, most, NUMPY[spec.datatype].str, constraints)

    @property
    def digest(self) -> Digest:
        """Of everything that bounds what is asked; constraints are part of it."""
        head = canonical({"shape": list(self.shape), "dtype": self.dtype.str})
        rest = b"" if self.constraints is None else self.constraints.to_bytes()
        return Digest.of(head + self.low.tobytes() + self.high.tobytes() + rest)

    @property
    def width(self) -> int:
        return len(self.low)

    @property
    def work_dtype(self) -> np.dtype[np.generic]:
        """What attacks compute in: the model's own floats, or 64-bit ones for whole numbers."""
        floating = self.dtype.kind == "f" and self.dtype.itemsize >= 4
        return self.dtype if floating else np.dtype(np.float64)

    def fit(self, rows: Array, origin: Array) -> Array:
        """Flat rows as the model will see them, as near to `rows` as its domain allows."""
        work = self.work_dtype
        kept = np.clip(rows.astype(work, copy=False), self.least, self.most)
        if self.constraints is not None:
            # What stays, stays within the domain; and rounding ends there too.
            start = np.clip(origin.astype(work, copy=False), self.least, self.most)
            kept = np.clip(self.constraints.fit(kept, start), self.least, self.most)
        if self.dtype.kind in "iu":
            kept = np.rint(kept)
        if self.dtype != work:
            kept = kept.astype(self.dtype).astype(work)
        return kept

    def holds(self, rows: Array) -> Array:
        """Which rows lie in the domain as they are; those that `fit` gave do."""
        # A range of one number that the type does not have is the nearest that it has.
        low, high = np.minimum(self.low, self.least), np.maximum(self.high, self.most)
        return np.asarray(((rows >= low) & (rows <= high)).all(axis=1))

    def draw(self, count: int) -> Array:
        """`count` rows from all over the domain, the same each time."""
        drawn = np.random.default_rng(0).uniform(0, 1, (count, self.width))
        rows = self.low + drawn * (self.high - self.low)
        return self.fit(rows, rows)

    def as_inputs(self, rows: Array) -> Array:
        """Flat rows as the batch that the model takes."""
        return np.ascontiguousarray(rows, self.dtype).reshape(-1, *self.shape)


def _reached(
    low: Array, high: Array, dtype: np.dtype[np.generic], constraints: Constraints | None
) -> tuple[Array, Array]:
    """The least and the greatest element of `dtype` within each range, whole where it must be."""
    least, most = np.asarray(low, np.float64), np.asarray(high, np.float64)
    whole = _is_rounded(constraints)
    least, most = np.where(whole, np.ceil(least), least), np.where(whole, np.floor(most), most)
    if (least > most).any():
        raise _bad("makes a feature whole that has no whole number in its range")
    if dtype.kind in "iu":
        ends = np.iinfo(dtype.str)
        # 2 ** 63 is no 64-bit integer, but the nearest float to the greatest of them.
        top = float(ends.max)
        top = top if int(top) == ends.max else float(np.nextafter(top, 0))
        least, most = np.maximum(np.ceil(least), ends.min), np.minimum(np.floor(most), top)
        if (least > most).any():
            raise InputError(
                "attack.bad_domain",
                f"There is no number of the type {dtype.name} in the range of an input.",
                "Give --low and --high, or declare them in the model's contract.",
            )
    elif dtype.kind == "f":
        least, most = _inside(least, most, dtype)
    _require_bits(constraints, least, most)
    return least, most


def _is_rounded(constraints: Constraints | None) -> Array:
    if constraints is None:
        return np.zeros(1, bool)
    return np.asarray(constraints.integer & ~constraints.immutable)


def _inside(low: Array, high: Array, dtype: np.dtype[np.generic]) -> tuple[Array, Array]:
    """Both ends as floats of `dtype`, rounded inwards."""
    with np.errstate(over="ignore", under="ignore"):
        least, most = low.astype(dtype), high.astype(dtype)
        up = np.nextafter(least, np.asarray(np.inf, dtype))
        down = np.nextafter(most, np.asarray(-np.inf, dtype))
    least = np.where(least.astype(np.float64) < low, up, least)
    most = np.where(most.astype(np.float64) > high, down, most)
    # Where the type has no number between them, the nearest to both stands for the range.
    nearest = np.where(least - high < low - most, least, most)
    none = least > most
    ends = [np.where(none, nearest, end).astype(np.float64) for end in (least, most)]
    return ends[0], ends[1]


def _require_bits(constraints: Constraints | None, least: Array, most: Array) -> None:
    for group in () if constraints is None else constraints.one_hot:
        places = list(group)
        stays = constraints is not None and constraints.immutable[places].any()
        if not stays and ((least[places] > 0).any() or (most[places] < 1).any()):
            raise _bad("has a one-hot group whose range does not hold 0 and 1")


def _of_bound(spec: TensorSpec, declared: Bound, given: float | None) -> Array:
    bound = given if declared is None else declared
    if bound is None:
        raise InputError(
            "attack.bad_domain",
            f"The contract declares no range for {spec.name!r}, and attacks stay within one.",
            "Declare low and high in the model's contract, or give --low and --high.",
        )
    return np.asarray(bound, np.float64)


def _end(bound: Array | float, width: int) -> Array:
    values = np.asarray(bound, np.float64).ravel()
    if values.size == 0 or width % values.size:
        raise InputError("attack.bad_domain", "A range does not have one end for every feature.")
    return np.tile(values, width // values.size)


def _mask(width: int, places: Sequence[int]) -> Array:
    found = np.zeros(width, bool)
    found[list(places)] = True
    return found


def _bad(why: str) -> InputError:
    return InputError("attack.bad_constraint", f"A constraint {why}.")
