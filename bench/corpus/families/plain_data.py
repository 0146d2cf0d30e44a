"""Honest data: pickles of plain values, frames, tables and texts."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import io
import ipaddress
import pathlib
import pickle
import random
import uuid
from collections.abc import Iterator

from bench.corpus.case import Case, good, need


def _values(seed: int) -> Iterator[Case]:
    draw = random.Random(seed)
    values: dict[str, object] = {
        "dictionary": {"a": 1, "b": [2.5, None, True], "c": {"d": "text"}},
        "list": [draw.random() for _ in range(200)],
        "tuples": [(i, str(i)) for i in range(100)],
        "sets": [{1, 2, 3}, frozenset({4, 5})],
        "bytes": [b"raw", bytearray(b"raw"), bytes(range(256))],
        "numbers": [1 << 200, -1, 0.1, float("inf"), 1j],
        "texts": ["", "ascii", "текст", "\U0001f600", "line\nline", "os.system"],
        "dates": [
            datetime.datetime(2026, 1, 2, 3, 4),
            datetime.date(2026, 1, 2),
            datetime.timedelta(3),
            datetime.time(1, 2),
            datetime.UTC,
            datetime.timezone(datetime.timedelta(hours=2)),
        ],
        "decimals": [decimal.Decimal("1.10"), fractions.Fraction(1, 3)],
        "uuids": [uuid.UUID(int=draw.getrandbits(128), version=4)],
        "ordered": collections.OrderedDict([("a", 1), ("b", 2)]),
        "counter": collections.Counter("abracadabra"),
        "deque": collections.deque([1, 2], 5),
        "defaults": collections.defaultdict(list, {"a": [1]}),
        "default_int": collections.defaultdict(int, {"a": 1}),
        "paths": [pathlib.PurePosixPath("a/b")],
        "addresses": [ipaddress.ip_address("192.0.2.1")],
        "ranges": [range(3), slice(1, 2), ...],
        "deep": _deep(60),
        "wide": {f"key{i}": i for i in range(3000)},
        "recursive": _recursive(),
        "code_as_text": [
            "import os",
            "eval(x)",
            "__import__('os').system('ls')",
            "c\nos\nsystem\n",
        ],
        "names_as_text": {"module": "os", "name": "system", "posix": "system"},
        "pickle_as_bytes": {"inner": pickle.dumps([1, 2, 3], 4)},
    }
    for index, (slug, value) in enumerate(values.items()):
        yield good(f"{slug}.pkl", pickle.dumps(value, index % 6))
        yield good(f"{slug}_protocol_4.pkl", pickle.dumps(value, 4))
    both = pickle.dumps(values["dictionary"], 4) + pickle.dumps(values["list"], 2)
    yield good("two_in_a_row.pkl", both, "pickle.load each")


def _deep(levels: int) -> object:
    value: object = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def _recursive() -> object:
    value: list[object] = [1]
    value.append(value)
    return value


def _frames(seed: int) -> Iterator[Case]:
    pandas, numpy = need("pandas"), need("numpy")
    draw = numpy.random.default_rng(seed)
    frame = pandas.DataFrame(
        {
            "number": draw.normal(size=20),
            "count": range(20),
            "text": [f"t{i}" for i in range(20)],
            "when": pandas.date_range("2026-01-01", periods=20),
            "kind": pandas.Categorical(["a", "b"] * 10),
            "flag": [True, False] * 10,
        }
    )
    frames = {
        "frame": frame,
        "series": frame["number"],
        "index": frame.set_index("text"),
        "multi_index": frame.groupby(["kind", "flag"], observed=True)[["number"]].sum(),
        "nullable": frame.convert_dtypes()[["count", "flag"]],
        "timedelta": pandas.Series(pandas.to_timedelta([1, 2], unit="D")),
        "timestamp": pandas.Timestamp("2026-01-02"),
        "period": pandas.period_range("2026-01", periods=3, freq="M"),
        "interval": pandas.interval_range(0, 3),
    }
    for slug, value in frames.items():
        yield good(f"pandas_{slug}.pkl", pickle.dumps(value, 4), "pandas.read_pickle")
    yield good("table.csv", frame.to_csv(index=False).encode(), "pandas.read_csv")
    need("pyarrow")
    out = io.BytesIO()
    frame.drop(columns=["kind"]).to_parquet(out)
    yield good("table.parquet", out.getvalue(), "pandas.read_parquet")


def _texts(seed: int) -> Iterator[Case]:
    yield good("rows.csv", b"x,y\n1,2\n3,4\n", "pandas.read_csv")
    yield good("readme.md", b"# A model\n\n```python\nimport pickle\n```\n", "none")
    yield good("labels.txt", b"cat\ndog\n", "none")
    yield good("rows.jsonl", b'{"text": "a"}\n{"text": "b"}\n', "none")
    yield good("merges.txt", b"#version: 0.2\na b\nab c\n", "none")
    yield good(
        "tokenizer.json",
        b'{"version": "1.0", "truncation": null, "model": {"type":'
        b' "WordPiece", "vocab": {"[UNK]": 0, "a": 1}}}',
        "json",
    )


PARTS = (_values, _frames, _texts)
