"""What the numbers of a last layer look like, out of a bounded sample of them.

A backdoor that was trained in, or edited in, tends to show in the weights of the class it leads
to (Fields et al., "Trojan Signatures in DNN Weights", 2021, arXiv:2109.02836). It need not, and
honest models may look odd: a smell is a reason to look, not a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Rows and columns that are looked at: some two million numbers.
MAX_ROWS, MAX_COLUMNS = 4096, 512
# How far from the others a class must be: many times their middle, and their spread.
_TIMES, _SPREADS, _LEAST_CLASSES = 6.0, 12.0, 4
_FORMS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_matrix(raw: memoryview, dtype: str, shape: tuple[int, ...]) -> Any:
    """The tensor as an array of its own type without a copy; None for what has no numbers here."""
    import numpy as np

    form = _FORMS.get(dtype)
    if form is None or not raw or 0 in shape:
        return None
    return np.frombuffer(raw, dtype=form).reshape(shape)


def sample(matrix: Any, dtype: str) -> Any:
    """Some rows and columns of it, as 64-bit numbers, and which rows they are."""
    import numpy as np

    rows = np.unique(np.linspace(0, len(matrix) - 1, min(len(matrix), MAX_ROWS)).astype(int))
    part = matrix[rows][:, :MAX_COLUMNS] if matrix.ndim == 2 else matrix[rows]
    if dtype == "BF16":
        part = (part.astype(np.uint32) << 16).view(np.float32)
    return part.astype(np.float64), rows


def weight_smells(matrix: Any, dtype: str) -> Iterator[tuple[str, str]]:
    """`matrix` has one row for each class."""
    import numpy as np

    if len(matrix) < _LEAST_CLASSES:
        return
    part, rows = sample(matrix, dtype)
    if not np.isfinite(part).all():
        yield "smell.not_finite", "Weights of the last layer are infinite or no numbers"
        return
    norms = np.sqrt((part**2).mean(axis=1))
    dead = int((norms == 0).sum())
    alive = norms[norms > 0]
    if dead and len(alive):
        yield "smell.dead_class", f"The weights of {dead} of {len(norms)} classes are all zero"
    if len(alive) >= _LEAST_CLASSES:
        middle = np.median(alive)
        spread = np.median(np.abs(alive - middle)) or middle * 1e-6
        worst = int(norms.argmax())
        if norms[worst] > _TIMES * middle and norms[worst] - middle > _SPREADS * spread:
            times = norms[worst] / middle
            reason = f"The weights of class {rows[worst]} are {times:.0f} times the usual size"
            yield "smell.class_weights", reason


def bias_smells(bias: Any, dtype: str) -> Iterator[tuple[str, str]]:
    """`bias` has one number for each class."""
    import numpy as np

    if len(bias) < _LEAST_CLASSES:
        return
    part, rows = sample(bias, dtype)
    if not np.isfinite(part).all():
        yield "smell.not_finite", "Biases of the last layer are infinite or no numbers"
        return
    middle = np.median(part)
    off = np.abs(part - middle)
    spread = np.median(off)
    worst = int(off.argmax())
    if off[worst] > max(5.0, 2 * _SPREADS * spread):
        reason = f"The bias of class {rows[worst]} is {part[worst]:.3g}, the usual {middle:.3g}"
        yield "smell.class_bias", reason


_MARKS = {
    b"PK\x03\x04": "a zip archive",
    b"\x7fELF": "a program",
    b"\x1f\x8b\x08": "a gzip stream",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"#!/": "a script",
    b"\x80\x02c": "a pickle",
    b"\x80\x04\x95": "a pickle",
}


def hidden_file(head: bytes) -> str:
    """What file the bytes of a tensor begin as, in words."""
    return next((what for mark, what in _MARKS.items() if head.startswith(mark)), "")
