"""Where secrets are looked for: encodings, notebooks, pickles, archives, heads of models."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.planted.values import FAMILIES
from keepstone.scan.allowance import Allowance
from keepstone.scan.secrets import readers
from keepstone.scan.secrets.found import SecretFinding
from keepstone.scan.secrets.look import find_in_environment, find_secrets

TOKEN = next(one for one in FAMILIES if one.kind == "github").make(random.Random(8))
WORD = "Vel" + "vet_Harbor83!"
LINE = f'password = "{WORD}"'


def found(data: bytes, path: str = "x") -> list[SecretFinding]:
    return list(find_secrets(data, path))


def places(data: bytes, path: str = "x") -> list[tuple[str, str | None]]:
    return [(item.kind, item.finding.location.member) for item in found(data, path)]


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(coding: str) -> None:
    (item,) = found(f"# first\n  {LINE}".encode(coding), "a.py")
    assert (item.line, item.column) == (2, 15)


def test_latin_1() -> None:
    (item,) = found(f"# caf\xe9\n{LINE}".encode("latin-1"), "a.py")
    assert item.line == 2


def test_a_notebook_is_read_by_cells() -> None:
    cells = [
        {"cell_type": "markdown", "source": "text"},
        {
            "cell_type": "code",
            "source": ["import os\n", f'token = "{TOKEN}"\n'],
            "outputs": [
                {"output_type": "stream", "text": ["ok\n"]},
                {"output_type": "error", "traceback": [f"\x1b[31m{LINE}\x1b[0m"]},
                {"output_type": "execute_result", "data": {"application/json": {"password": WORD}}},
            ],
            "metadata": {"api_token": TOKEN},
        },
    ]
    document = {"nbformat": 4, "cells": cells, "metadata": {"kernel": {"password": WORD}}}
    items = found(json.dumps(document).encode(), "a.ipynb")
    assert [(item.finding.location.member, item.line) for item in items] == [
        ("cell 2 source", 2),
        ("cell 2 output 2", 1),
        ("cell 2 output 3", None),
        ("cell 2 metadata", None),
        ("metadata", None),
    ]


def notebook(**more: Any) -> bytes:
    cell = {"cell_type": "code", "source": "x = 1", "metadata": {}, "outputs": []} | more
    return json.dumps({"nbformat": 4, "cells": [cell], "metadata": {}}).encode()


def test_pictures_of_a_notebook_are_no_text() -> None:
    # Nobody's key, but what base64 may spell; behind a slash it is a word of its own.
    key = next(one for one in FAMILIES if one.kind == "aws id").make(random.Random(8))
    pixels = f"iVBORw0KGgoAAAA/{key}/AAA"
    for picture in (pixels, [pixels[:20] + "\n", pixels[20:]]):
        data = {"image/png": picture, "text/plain": "<Figure>"}
        assert not found(notebook(outputs=[{"output_type": "display_data", "data": data}]))
        assert not found(notebook(attachments={"a.png": {"image/png": picture}}))
    assert found(notebook(outputs=[{"data": {"text/plain": pixels}}]))
    # What is said to be a picture, and is a text.
    assert found(notebook(outputs=[{"data": {"image/png": f"iVBOR {TOKEN}"}}]))


def deep(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = {"k": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize(
    "more",
    [
        {"outputs": [f"token {TOKEN}"]},
        {"outputs": {"x": f"tok {TOKEN}"}},
        {"outputs": f"tok {TOKEN}"},
        {"outputs": [{"data": f"tok {TOKEN}"}]},
        {"outputs": [{"data": [f"tok {TOKEN}"]}]},
        {"outputs": [[{"text": f"\x1b[31m{TOKEN}\x1b[0m"}]]},
        {"metadata": {"png": f"tok {TOKEN}"}},
        {"metadata": {"image/png": TOKEN}},
        {"metadata": {f"tok {TOKEN}": 1}},
        {"metadata": deep(TOKEN, 105)},
        {"metadata": deep(TOKEN, 180)},
        {"source": {"x": [f"tok = '{TOKEN}'"]}},
        {"outputs": ["x", {"y": f"password: {WORD}\n"}, f"password: {WORD}\n"]},
    ],
)
def test_what_lies_in_no_place_of_a_notebook_is_found(more: dict[str, Any]) -> None:
    (item,) = found(notebook(**more), "a.ipynb")
    assert item.counts


@pytest.mark.parametrize(
    "more",
    [
        {"worksheets": [f"tok {TOKEN}"]},
        {"worksheets": {"cells": [{"source": f"x = '{TOKEN}'"}]}},
        {"worksheets": [{"metadata": {"x": TOKEN}}]},
        {"cells": [f"tok {TOKEN}"]},
    ],
)
def test_what_lies_beside_the_cells_of_a_notebook_is_found(more: dict[str, Any]) -> None:
    value = json.loads(notebook()) | more
    assert [kind for kind, _ in places(json.dumps(value).encode(), "a.ipynb")] == ["GitHub token"]


def test_json_that_is_too_deep_to_be_read_is_not_clean() -> None:
    inner = '"' + TOKEN.replace("gh", "\\u0067h") + '"'
    text = '{"cells": [], "nbformat": 4, "x": ' + "[" * 200_000 + inner + "]" * 200_000 + "}"
    assert found(text.encode(), "a.ipynb")


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_tells_the_place_of_its_constants(protocol: int) -> None:
    data = pickle.dumps({"n": [TOKEN.encode(), 1], "password": WORD}, protocol)
    items = {item.kind: item for item in found(data, "a.pkl")}
    assert set(items) == {"GitHub token", "password"}
    offset = items["password"].finding.location.offset
    assert offset is not None
    assert WORD.encode() in data[offset : offset + len(WORD) + 12]


def test_keys_of_states_and_of_pairs_count() -> None:
    class Client:
        pass

    client = Client()
    client.password = WORD  # type: ignore[attr-defined]
    Client.__qualname__ = "Client"
    globals()["Client"] = Client
    assert [kind for kind, _ in places(pickle.dumps(client))] == ["password"]
    assert [kind for kind, _ in places(pickle.dumps([("password", WORD)]))] == ["password"]
    twice = [{"password": "none"}, {"password": WORD}]
    assert [kind for kind, _ in places(pickle.dumps(twice))] == ["password"]


def test_a_pickle_is_not_run() -> None:
    class Bad:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"raise SystemExit # {TOKEN}",)

    assert ("GitHub token", None) in places(pickle.dumps({"x": Bad()}))


def test_a_pickle_in_a_pickle_and_beyond_a_break() -> None:
    inner = pickle.dumps({"password": WORD})
    assert [kind for kind, _ in places(pickle.dumps({"blob": inner}))] == ["password"]
    broken = pickle.dumps({"a": 1})[:-1] + b"\xff" + TOKEN.encode()
    items = found(broken)
    assert "GitHub token" in [item.kind for item in items]
    assert any("cannot be followed" in item.finding.message for item in items)


def test_arrays_of_joblib_are_stepped_over(need_module: Callable[[str], Any]) -> None:
    joblib = need_module("joblib")
    out = io.BytesIO()
    joblib.dump({"w": np.arange(300.0), "password": WORD}, out)
    assert places(out.getvalue(), "a.joblib") == [("password", None)]


def test_torch_and_texts_of_numpy(need_module: Callable[[str], Any]) -> None:
    torch = need_module("torch")
    out = io.BytesIO()
    torch.save({"w": torch.zeros(3), "password": WORD}, out)
    assert places(out.getvalue()) == [("password", "archive/data.pkl")]
    out = io.BytesIO()
    np.save(out, np.array([TOKEN, "x"]))
    assert places(out.getvalue()) == [("GitHub token", "array")]


def test_archives_within_archives() -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("a.py")
        info.size = len(LINE)
        archive.addfile(info, io.BytesIO(LINE.encode()))
    data = zipped(**{"in/side.tar.xz": lzma.compress(tar.getvalue()), "b.gz": gzip.compress(b"x")})
    assert places(data) == [("password", "in/side.tar.xz > (xz) > a.py")]


def test_what_cannot_be_opened_is_named() -> None:
    data = bytearray(zipped(**{"locked.txt": LINE.encode(), "open.txt": b"x"}))
    at = data.index(b"PK\x03\x04") + 6
    data[at] |= 1
    at = data.index(b"PK\x01\x02") + 8
    data[at] |= 1
    unread = [item for item in found(bytes(data)) if not item.is_secret]
    assert [item.finding.rule for item in unread] == ["scan.not_evaluated"]
    assert unread[0].finding.location.member == "locked.txt"


def test_depth_members_and_bombs_are_limits_and_said() -> None:
    data = LINE.encode()
    for _ in range(20):
        data = zipped(x=data)
    assert any(not item.is_secret for item in found(data))
    many = zipped(**{f"m{n}": b"x" for n in range(5)})
    unread = [
        item.finding.message for item in find_secrets(many, "x", allowance=Allowance(members=3))
    ]
    assert unread == ["The file holds more members than the limit allows."]
    bomb = gzip.compress(bytes(70 << 20))
    assert [item.is_secret for item in found(bomb)] == [False]


def test_heads_of_models(need_module: Callable[[str], Any]) -> None:
    safetensors = need_module("safetensors.numpy")
    metadata = {"api_key": TOKEN, "config": json.dumps({"password": WORD})}
    data = safetensors.save({"w": np.zeros(2)}, metadata)
    assert sorted(places(data), key=str) == [
        ("GitHub token", "metadata api_key"),
        ("password", "metadata config"),
    ]


def test_gguf_and_onnx(need_module: Callable[[str], Any]) -> None:
    onnx = need_module("onnx")
    graph = onnx.helper.make_graph([], "g", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"password": WORD})
    assert places(model.SerializeToString()) == [("password", "metadata password")]
    text = lambda value: len(value).to_bytes(8, "little") + value  # noqa: E731
    head = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (1).to_bytes(8, "little")
    entry = text(b"general.password") + (8).to_bytes(4, "little") + text(WORD.encode())
    assert places(head + entry) == [("password", "metadata general.password")]


def test_a_binary_is_searched_for_what_tells_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(1).randbytes(9000)
    (item,) = found(noise + b"\0" + TOKEN.encode() + b"\0" + noise, "weights.bin")
    assert item.finding.location.offset == 9001
    monkeypatch.setattr(readers, "_STEP", 1 << 16)
    across = random.Random(2).randbytes((1 << 16) - 11) + b"\0" + TOKEN.encode() + b"\0"
    assert [one.kind for one in found(across)] == ["GitHub token"]


def test_escapes_and_text_within_text_of_json() -> None:
    text = json.dumps({"k": TOKEN}).replace("gh", "\\u0067h")
    assert [kind for kind, _ in places(text.encode(), "a.json")] == ["GitHub token"]


def test_closed_formats_are_not_clean() -> None:
    assert [item.is_secret for item in found(b"PAR1" + bytes(50) + b"PAR1")] == [False]


@pytest.mark.parametrize("mark", [b"Rar!\x1a\x07\x01\x00", b"Rar!", b"\x03\xd9\xa2\x9ag\xfbK\xb5"])
def test_what_is_packed_or_encrypted_whole_is_not_clean(mark: bytes) -> None:
    data = mark + random.Random(3).randbytes(3000)
    assert [item.is_secret for item in found(data)] == [False]
    assert [item.is_secret for item in found(zipped(inner=data))] == [False]


def test_variables_of_an_environment() -> None:
    items = list(find_in_environment([f"DB_PASSWORD={WORD}", f"X={TOKEN}", "PATH=/bin", "EMPTY"]))
    assert [(item.kind, item.finding.location.member) for item in items] == [
        ("GitHub token", "X"),
        ("password", "DB_PASSWORD"),
    ]
    assert [item.kind for item in find_in_environment({"X": TOKEN})] == ["GitHub token"]


def test_nothing_and_honest_text_are_clean() -> None:
    assert not found(b"")
    assert not found(b"import os\n\nprint('hello')\n", "a.py")


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    list(find_secrets(data, "x"))
    list(find_secrets(b"\x80\x04" + data, "x"))
    list(find_secrets(b'{"cells": [' + data, "x.ipynb"))


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_makes_it_raise_or_is_printed(name: str, value: str) -> None:
    text = f'{name}password = "{value}{WORD}" {name}'
    for item in find_secrets(text.encode("utf-8", "replace"), "x.py"):
        assert WORD not in f"{item!r}"


def test_what_takes_too_long_is_not_clean() -> None:
    text = ("password=" * 300_000).encode()
    items = list(find_secrets(text, "x.txt", allowance=Allowance(until=0.0)))
    assert [item.finding.message for item in items] == [
        "The file takes longer than the limit allows."
    ]


def test_a_line_longer_than_a_piece_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    step = 1 << 16
    monkeypatch.setattr(readers, "_STEP", step)
    data = b"\xff\xfe\xfd\0" + b"ab cd " * (step // 3) + TOKEN.encode() + b" ab" * 50
    assert [item.kind for item in found(data)] == ["GitHub token"]


def test_a_cell_that_stands_there_twice_hides_nothing() -> None:
    cell = f'"cell_type": "code", "source": "x = \'{TOKEN}\'", "source": "x = 1"'
    text = f'{{"nbformat": 4, "cells": [{{{cell}}}]}}'
    assert [kind for kind, _ in places(text.encode(), "a.ipynb")] == ["GitHub token"]


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"])
def test_a_mark_of_another_encoding_hides_nothing(mark: bytes) -> None:
    assert "GitHub token" in [kind for kind, _ in places(mark + f"x = '{TOKEN}' ".encode() * 2)]
