"""Shadow models: the owner's training, repeated on random halves of the rows that are audited.

They show how sure a model is of each row when it was trained on it and when it was not. Models
come in pairs: the second of a pair is trained on the rows that the first was not, so that each
row is inside exactly half of them. Model `i` hangs on the seed and on `i` alone: the first four
of 64 are the four that a quick audit takes, and all attacks share them.

Source: Shokri et al. 2017; the pairing, Carlini et al. 2022. Cost: one training a model, and a
prediction for each row. Blind spot: what the training function does not do as the owner's
training does (other data, other settings) makes every attack that rests on this weaker.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.privacy.observation import Observation, observe
from keepstone.lab.draws import draws
from keepstone.lab.training import Train, data_digest

_FIELDS = ("inside", "log_odds", "right", "labels_only", "seed", "data", "training")


@dataclass(frozen=True, slots=True, eq=False)
class Shadows:
    """What `m` models say of `n` rows. `inside` (m, n): which rows each was trained on.

    `log_odds` (m, n) is what each says of the rows, `right` (m, n) whether its label is the row's.
    `data` is the digest of the rows and their labels, `training` the caller's name for how the
    models were trained.
    """

    inside: Array
    log_odds: Array
    right: Array
    labels_only: bool
    seed: int
    data: Digest
    training: str

    @property
    def count(self) -> int:
        return len(self.inside)

    def first(self, count: int) -> Shadows:
        """The first `count` of them. Raises InputError `attack.bad_shadows`."""
        if count % 2 or not 2 <= count <= self.count:
            raise _bad(f"{count} of {self.count} were asked for; they come in pairs")
        return Shadows(
            self.inside[:count],
            self.log_odds[:count],
            self.right[:count],
            self.labels_only,
            self.seed,
            self.data,
            self.training,
        )

    def as_bytes(self) -> bytes:
        """A file of arrays (.npz), to be read by `read_shadows`."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            inside=self.inside,
            log_odds=self.log_odds,
            right=self.right,
            labels_only=np.array(self.labels_only),
            seed=np.array(self.seed),
            data=np.array(self.data.hex),
            training=np.array(self.training),
        )
        return buffer.getvalue()


def halves(rows: int, count: int, seed: int) -> Array:
    """Which rows each of `count` models is trained on (count, rows)."""
    found = np.zeros((count, rows), bool)
    for pair in range(0, count, 2):
        order = draws(seed, pair).permutation(rows)
        found[pair, order[: rows // 2]] = True
        found[pair + 1] = ~found[pair]
    return found


def make_shadows(
    train: Train,
    x: Array,
    y: Array,
    count: int,
    seed: int,
    *,
    training: str = "",
    labels_only: bool = False,
    kept: Shadows | None = None,
    progress: Callable[[int], None] = lambda made: None,
) -> Shadows:
    """`count` shadow models of the rows `x` (n, d) and their classes `y` (n,), seen once each.

    `kept` are some that were made before, of the same data, seed and training: only those that
    are missing are trained. `labels_only` sees of a model what a target that serves labels shows.

    Raises InputError `attack.bad_shadows`; what `train` raises, and OperationalError `target.*`.
    """
    if count < 2 or count % 2 or len(x) < 4 or len(x) != len(y) or seed < 0:
        raise _bad("they come in pairs, of a seed from 0 on and of four rows with labels or more")
    data = data_digest(x, y)
    inside = halves(len(x), count, seed)
    seen: list[Array] = []
    right: list[Array] = []
    if kept is not None:
        _require_same(kept, data, seed, training, labels_only)
        seen, right = list(kept.log_odds[:count]), list(kept.right[:count])
    for number in range(len(seen), count):
        rows = inside[number]
        model = train(x[rows], y[rows], _seed_of(seed, number))
        found = observe(model, x, y, labels_only=labels_only)
        seen.append(_required(found, labels_only))
        right.append(found.labels == y)
        progress(number + 1)
    return Shadows(inside, np.stack(seen), np.stack(right), labels_only, seed, data, training)


def read_shadows(content: bytes) -> Shadows:
    """Read what `Shadows.as_bytes` wrote; nothing in it is run.

    Raises InputError `attack.bad_shadows`.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            held = {name: file[name] for name in _FIELDS}
        inside, seen, right = held["inside"], held["log_odds"], held["right"]
        sound = inside.dtype == right.dtype == np.bool_ and seen.dtype == np.float64
        alike = inside.ndim == 2 and inside.shape == seen.shape == right.shape
        if not sound or not alike or not np.isfinite(seen).all():
            raise _bad("the file holds something else")
        return Shadows(
            inside,
            seen,
            right,
            bool(held["labels_only"]),
            int(held["seed"]),
            Digest(str(held["data"])),
            str(held["training"]),
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise _bad("the file cannot be read") from error


def kept_shadows(
    path: Path,
    train: Train,
    x: Array,
    y: Array,
    count: int,
    seed: int,
    *,
    training: str,
    labels_only: bool = False,
) -> Shadows:
    """The same as `make_shadows`, from the file at `path` where it holds them, else kept there.

    `training` has to name all that decides how a model is trained: a function has no digest.
    A file of other data, seed or training is refused, not replaced.

    Raises as `make_shadows` does, and OperationalError `attack.not_kept`.
    """
    try:
        content = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise _not_kept(error) from error
    kept = None if content is None else read_shadows(content)
    found = make_shadows(
        train, x, y, count, seed, training=training, labels_only=labels_only, kept=kept
    )
    if kept is None or kept.count < found.count:
        # Half a file would be refused ever after.
        part = path.with_name(f"{path.name}.part")
        try:
            part.write_bytes(found.as_bytes())
            part.replace(path)
        except OSError as error:
            raise _not_kept(error) from error
    return found


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint32)[0])


def _required(found: Observation, labels_only: bool) -> Array:
    if np.isnan(found.log_odds).any():
        raise _bad("one of them gives no numbers for some rows")
    if found.labels_only != labels_only:
        raise _bad("they serve labels only, and the target serves scores")
    # Certainty is written as infinite where scores were.
    return np.nan_to_num(found.log_odds, posinf=1e308, neginf=-1e308)


def _require_same(kept: Shadows, data: Digest, seed: int, training: str, labels_only: bool) -> None:
    same = (kept.data, kept.seed, kept.training, kept.labels_only)
    if same != (data, seed, training, labels_only):
        raise _bad("those that were kept are of other data, another seed or another training")


def _bad(why: str) -> InputError:
    return InputError(
        "attack.bad_shadows",
        f"The shadow models cannot be used: {why}.",
        "Give a training function that makes models as the audited one was made.",
    )


def _not_kept(error: OSError) -> OperationalError:
    return OperationalError(
        "attack.not_kept",
        f"The file of the shadow models' answers cannot be read or written: {error.strerror}.",
    )
