"""The scanner's bench counts honestly: what a scanner leaves open is neither flagged nor clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import scanner
from bench.corpus.truth import NOT_PROVEN, PROVEN, QUIET
from bench.scanner_peer import CLEAN, FLAGGED, OPEN


def file(path: str, truth: str, family: str = "pickle") -> dict[str, Any]:
    malicious = truth != QUIET
    return {"path": path, "family": family, "malicious": malicious, "truth": truth, "size": 1}


FILES = [
    file("a", PROVEN),
    file("b", PROVEN),
    file("c", PROVEN),
    file("d", NOT_PROVEN, "onnx"),
    file("e", QUIET),
    file("f", QUIET, "onnx"),
]
VERDICTS = {"a": FLAGGED, "b": CLEAN, "c": OPEN, "d": CLEAN, "e": OPEN, "f": FLAGGED}


def test_what_is_counted() -> None:
    found = scanner.counts(FILES, VERDICTS)
    assert (found["malicious"], found["proven"], found["benign"]) == (4, 3, 2)
    assert (found["flagged"], found["silent"], found["silent all"]) == (1, 1, 2)
    assert (found["not clean"], found["alarms"]) == (2, 1)


def test_the_table_has_a_line_for_each_family_and_one_for_all() -> None:
    lines = scanner.table(FILES, {"keepstone": VERDICTS}).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["pickle", "onnx", "all"]
    assert lines[3].split() == ["all", "4", "3", "2", "1", "/", "1", "/", "2"]


def test_a_slow_scanner_is_asked_about_some_of_each_family() -> None:
    many = [file(f"{family}/{i}", PROVEN, family) for family in ("a", "b") for i in range(20)]
    asked = scanner.sampled("modelaudit", many)
    assert [one["path"] for one in asked] == ["a/0", "a/8", "a/16", "b/0", "b/8", "b/16"]
    assert scanner.sampled("picklescan", many) == many
    assert scanner.counts(many, {"a/0": FLAGGED})["malicious"] == 1


def test_the_big_files_are_what_they_say(tmp_path: Path) -> None:
    scanner.write_torch(tmp_path / "model.pt", 1 << 20)
    scanner.write_safetensors(tmp_path / "model.safetensors", 1 << 20)
    assert (tmp_path / "model.pt").read_bytes()[:4] == b"PK\x03\x04"
    assert (tmp_path / "model.safetensors").stat().st_size > 1 << 20
