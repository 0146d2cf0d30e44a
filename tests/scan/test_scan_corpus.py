"""The corpus: the same from the same seed, whole in its manifest, and true in what it says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.corpus import case, truth, write
from bench.corpus.case import CANARY, MissingError
from bench.corpus.loaders import LOADERS
from bench.corpus.write import FAMILIES, read_manifest, write_corpus
from keepstone.core.finding import Outcome
from keepstone.scan.scanner import scan_paths

ROOT = Path(__file__).parent.parent.parent
LIGHT = ("pickle_opcodes", "pickle_nested", "saved_model", "gguf_files", "configuration")


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, families=LIGHT)
    return folder


def test_one_seed_makes_one_corpus(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "again", families=LIGHT)
    assert contents(tmp_path / "again") == contents(corpus)


def test_the_manifest_names_every_file_and_no_other(corpus: Path) -> None:
    named = {file["path"] for file in read_manifest(corpus)["files"]}
    found = {path for path in contents(corpus) if "/" in path}
    assert {"/".join(path.split("/")[:2]) for path in found} == named


def test_every_entry_says_what_it_is(corpus: Path) -> None:
    for file in read_manifest(corpus)["files"]:
        name = Path(file["path"]).name
        assert name.startswith("fail_" if file["malicious"] else "good_"), name
        assert bool(file["fires"]) == file["malicious"], name
        assert file["loader"] == "none" or file["loader"] in LOADERS, name


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"")
    with pytest.raises(FileExistsError, match="is not empty"):
        write_corpus(tmp_path, families=LIGHT)


def test_a_missing_library_is_in_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    manifest = write_corpus(tmp_path, families=["tflite_files"])
    assert {part["reason"] for part in manifest["skipped"]} == {"flatbuffers is not installed"}
    with pytest.raises(MissingError):
        case.need("flatbuffers")


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / write.MANIFEST).write_text(json.dumps({"schema": "keepstone.corpus/v9"}))
    with pytest.raises(ValueError, match=r"corpus/v9"):
        read_manifest(tmp_path)


def test_nothing_malicious_is_called_clean(corpus: Path) -> None:
    for file in read_manifest(corpus)["files"]:
        outcome = scan_paths([corpus / file["path"]]).outcome
        assert not (file["malicious"] and outcome is Outcome.CLEAN), file["path"]


# The truth --------------------------------------------------------------------------------------


def test_a_sample_fires_as_the_manifest_says(corpus: Path) -> None:
    fires = [
        "pickle_opcodes/fail_reduce_protocol_4.pkl",
        "pickle_opcodes/fail_odd_numbers_hex.pkl",
        "pickle_opcodes/fail_extension_ext1.pkl",
        "pickle_opcodes/fail_stream_second_pickle.pkl",
        "pickle_nested/fail_marshal_function.pkl",
        "pickle_nested/fail_loads_twelve_deep.pkl",
        "gguf_files/fail_template_cycler.gguf",
        "configuration/fail_target_system.json",
    ]
    quiet = [
        "gguf_files/good_template_llama.gguf",
        "configuration/good_training.json",
        "configuration/good_training.toml",
    ]
    open_ones = ["saved_model/fail_readfile.pb", "saved_model/good_plain.pb"]
    found = truth.find_truth(corpus, {*fires, *quiet, *open_ones}, "--bare")
    assert {path for path, item in found.items() if item["truth"] == truth.PROVEN} == {*fires}
    assert {found[path]["truth"] for path in quiet} == {truth.QUIET}
    assert found[open_ones[0]]["truth"] == truth.NOT_PROVEN
    assert found[open_ones[0]]["why"] == "no loader is here"


def test_what_fires_reaches_nothing(corpus: Path) -> None:
    """A program that a pickle starts is reported and refused; the canary beside it stays."""
    before = (corpus / CANARY).read_bytes()
    found = truth.find_truth(corpus, {"pickle_opcodes/fail_call_popped.pkl"}, "--bare")
    assert found["pickle_opcodes/fail_call_popped.pkl"]["why"] == "os.system"
    assert (corpus / CANARY).read_bytes() == before


def answer(**changes: Any) -> dict[str, Any]:
    return {"events": [], "mark": False, "made": [], "end": "loaded", "error": ""} | changes


@pytest.mark.parametrize(
    ("malicious", "changes", "expected"),
    [
        (True, {"events": ["os.system"]}, truth.PROVEN),
        (True, {"mark": True}, truth.PROVEN),
        (True, {"made": ["x"]}, truth.PROVEN),
        (True, {"end": "died", "error": "signal 11"}, truth.PROVEN),
        (True, {"end": "late", "error": "ran past the time"}, truth.PROVEN),
        (True, {}, truth.NOT_PROVEN),
        (True, {"end": "error", "error": "ValueError: x"}, truth.NOT_PROVEN),
        (True, {"end": "missing", "error": "x is not installed"}, truth.NOT_PROVEN),
        (False, {}, truth.QUIET),
        (False, {"end": "missing", "error": "x is not installed"}, truth.QUIET),
        (False, {"end": "error", "error": "ValueError: x"}, truth.NOISY),
        (False, {"events": ["socket.connect"]}, truth.NOISY),
        (False, {"end": "memory", "error": "MemoryError"}, truth.NOISY),
    ],
)
def test_the_verdict_of_the_witness(
    malicious: bool, changes: dict[str, Any], expected: str
) -> None:
    file = {"malicious": malicious, "loader": "pickle.load", "path": "x"}
    assert truth.judge(file, answer(**changes))["truth"] == expected


# Their libraries put times, addresses or random names into what they write.
VARY = (
    *("archives", "boosters", "cloud_files", "estimators", "keras_files", "safetensors_files"),
    "torch_files",
)


@pytest.mark.slow
def test_the_whole_corpus_is_wide_small_and_quickly_made(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    made = []
    for name in ("one", "two"):
        started = time.monotonic()
        command = [sys.executable, "-m", "bench.corpus", str(tmp_path / name)]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
        assert time.monotonic() - started < 120
        made.append(contents(tmp_path / name))
    manifest = read_manifest(tmp_path / "one")
    counts = Counter(file["malicious"] for file in manifest["files"])
    assert counts[True] >= 250
    assert counts[False] >= 130
    assert sum(file["size"] for file in manifest["files"]) < 60_000_000
    assert {file["family"] for file in manifest["files"]} == set(FAMILIES)
    assert made[0].keys() == made[1].keys()
    changed = {path for path, digest in made[0].items() if made[1][path] != digest}
    assert {path.partition("/")[0] for path in changed} <= {*VARY, write.MANIFEST}
