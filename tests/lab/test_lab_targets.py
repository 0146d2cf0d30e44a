"""Which output is the answer, and what a child that misbehaves is worth."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.targets import file as module
from keepstone.lab.targets.file import FileTarget, open_file
from keepstone.lab.targets.reading import Reading

X = TensorSpec("x", DType.FP32, (-1, 2, 2))
LABEL = TensorSpec("label", DType.INT64, (-1,))
SCORES = TensorSpec("scores", DType.FP32, (-1, 3))
VALUE = TensorSpec("value", DType.FP64, (-1, 1))
IMAGE = TensorSpec("image", DType.FP32, (-1, 8, 8))


def reading(*outputs: TensorSpec, output: str | None = None) -> Reading:
    return Reading.of(ModelContract((X,), outputs), output)


def test_a_label_is_preferred_and_a_name_decides() -> None:
    assert reading(IMAGE, SCORES, LABEL).output is LABEL
    assert reading(IMAGE, SCORES, VALUE).output is SCORES
    assert reading(LABEL, VALUE, output="value").output is VALUE
    for outputs, name in (((IMAGE,), None), ((LABEL,), "other"), ((IMAGE, LABEL), "image")):
        with pytest.raises(InputError) as caught:
            reading(*outputs, output=name)
        assert caught.value.code == "fingerprint.no_output"


def test_rows_are_laid_out_as_the_model_takes_them() -> None:
    asked = reading(LABEL).question(np.arange(8.0).reshape(2, 4))
    assert (asked.shape, asked.dtype) == ((2, 2, 2), np.float32)
    with pytest.raises(InputError) as caught:
        reading(LABEL).question(np.zeros((2, 3)))
    assert caught.value.code == "fingerprint.other_inputs"


def test_answers_are_labels_numbers_or_nothing() -> None:
    labels = reading(LABEL)
    assert labels.answers({"label": np.array([3, -1])}, 2) == ["3", "-1"]
    assert labels.answers({"label": np.array([3])}, 2) == [None, None]
    texts = TensorSpec("text", DType.BYTES, (-1,))
    given = np.array([b"cat", "x" * 999, b"\xff"], object)
    assert reading(texts).answers({"text": given}, 3) == ["cat", "x" * 256, "\ufffd"]
    scores = np.array([[0, 1, 0], [0, np.nan, 1], [2, 1, np.inf]])
    assert reading(SCORES).answers({"scores": scores}, 3) == ["1", None, None]
    values = np.array([[0.5], [np.nan], [-np.inf]])
    assert reading(VALUE).answers({"value": values}, 3) == [0.5, None, None]


@contextmanager
def child(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that says what `program` writes with `say`."""
    head = "import os, sys, time\ndef say(b): os.write(1, len(b).to_bytes(4, 'big') + b)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("say(b'{')", "target.broken"),
        ("say(b'[1]')", "target.broken"),
        ("say(b'{\"width\": 4}')", "target.broken"),
        ("say(b'[NaN, 1]')", "target.broken"),
        ("say(b'[' * 100000)", "target.broken"),
        ('say(b\'{"error": ["denied", "x.y", "no", ""]}\')', "x.y"),
        ("os.write(1, b'\\xff\\xff\\xff\\xff')", "target.too_large"),
        ("os.write(1, b'\\0\\0\\0\\x09half')", "target.ended"),
        ("pass", "target.ended"),
        ("time.sleep(60)", "target.too_slow"),
        ("os.write(1, b'\\0'); time.sleep(60)", "target.too_slow"),
    ],
)
def test_a_child_that_misbehaves_is_an_error(
    program: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWER_S", 2.0)
    with child(program) as process, pytest.raises(KeepstoneError) as caught:
        FileTarget(process, 4).ask(np.zeros((2, 4)))
    assert caught.value.code == code


def test_odd_values_of_a_child_are_no_answers() -> None:
    odd = f"say(b'[\"a\", 1, null, true, {{}}, 1{'0' * 400}]')"
    with child(odd) as process:
        found = FileTarget(process, 1).ask(np.zeros((6, 1)))
    assert found == ["a", 1.0, None, None, None, None]


def test_a_child_that_is_gone_is_said() -> None:
    with child("pass") as process:
        process.wait()
        with pytest.raises(OperationalError) as caught:
            FileTarget(process, 4).ask(np.zeros((1 << 16, 4)))
    assert caught.value.code == "target.ended"


def test_formats_that_bring_code_are_not_loaded() -> None:
    for format in ("torch", "safetensors", "pickle", "folder", ""):
        with (
            pytest.raises(OperationalError) as caught,
            open_file(Path("x"), Digest.of(b""), format),
        ):
            pass
        assert caught.value.code == "target.format"
