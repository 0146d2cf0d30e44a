"""Broken files of the corpus: no crash, no hang, no flood of memory, and never a wrong "clean"."""

from __future__ import annotations

import random
import resource
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.corpus.mutate import mutate, seeds, still_fires
from bench.corpus.opcodes import pickled, shell
from keepstone.core.finding import Outcome
from keepstone.scan.report import FileReport
from keepstone.scan.rules import finding
from keepstone.scan.scanner import scan_file
from tools import fuzz

SEEDS = dict(
    seeds(
        (
            *("pickle_opcodes", "pickle_nested", "torch_files", "archives", "gguf_files"),
            *("safetensors_files", "saved_model", "configuration", "xml_files", "notebooks"),
        )
    )
)
NAMES = st.sampled_from(sorted(SEEDS))
SECONDS = 5.0
MEMORY_KIB = 512 << 10


def judged(folder: Path, data: bytes) -> FileReport:
    path = folder / "input.bin"
    path.write_bytes(data)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    report = scan_file(path)
    assert time.monotonic() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB
    return report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(NAMES, NAMES, st.randoms(use_true_random=False))
def test_a_broken_file_is_never_called_clean_while_it_fires(
    folder: Path, name: str, other: str, draw: random.Random
) -> None:
    data = mutate(draw, SEEDS[name], SEEDS[other])
    assert fuzz.complain(judged(folder, data), data) == ""


@given(NAMES, st.data())
def test_one_flipped_bit(folder: Path, name: str, data: st.DataObject) -> None:
    broken = bytearray(SEEDS[name])
    at = data.draw(st.integers(0, max(0, 8 * len(broken) - 1)))
    broken[at // 8] ^= 1 << at % 8
    assert fuzz.complain(judged(folder, bytes(broken)), bytes(broken)) == ""


@given(NAMES, st.data())
def test_every_truncation(folder: Path, name: str, data: st.DataObject) -> None:
    whole = SEEDS[name]
    short = whole[: data.draw(st.integers(0, len(whole)))]
    assert fuzz.complain(judged(folder, short), short) == ""


@given(NAMES, NAMES, st.data())
def test_one_file_within_another(folder: Path, name: str, other: str, data: st.DataObject) -> None:
    front, back = SEEDS[name], SEEDS[other]
    at = data.draw(st.integers(0, len(front)))
    joined = front[:at] + back + front[at:]
    assert fuzz.complain(judged(folder, joined), joined) == ""


# What the fuzzer goes by ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "pickle_opcodes/fail_reduce_protocol_0.pkl",
        "pickle_opcodes/fail_odd_memo_padded_number.pkl",
        "torch_files/fail_game_deflated.pt",
        "archives/fail_gzip_twice.gz",
    ],
)
def test_the_oracle_sees_what_fires(name: str) -> None:
    assert still_fires(SEEDS[name])


def test_the_oracle_imports_nothing_and_sees_nothing_in_plain_data() -> None:
    assert not still_fires(pickled(b"}"))
    assert not still_fires(b"\x80\x04cantigravity\nfly\n.")
    assert not still_fires(b"no pickle")


def report(outcome: Outcome, *messages: str) -> FileReport:
    found = tuple(finding("scan.not_evaluated", message, "x") for message in messages)
    return FileReport("x", None, 0, "unknown", outcome, found)


def test_what_the_fuzzer_complains_of() -> None:
    bad = pickled(shell())
    assert fuzz.complain(report(Outcome.CLEAN), bad) == "It is called clean and still fires."
    assert fuzz.complain(report(Outcome.CLEAN), b"data") == ""
    assert fuzz.complain(report(Outcome.FLAGGED), bad) == ""
    failed = report(Outcome.NOT_EVALUATED, "The scanner failed: KeyError.")
    assert fuzz.complain(failed, b"data") == "The scanner failed: KeyError."


def test_the_fuzzer_finds_a_raise_a_hang_and_a_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(path: Path) -> FileReport:
        raise KeyError("x")

    def hangs(path: Path) -> FileReport:
        while True:
            time.sleep(0.01)

    def lies(path: Path) -> FileReport:
        return report(Outcome.CLEAN)

    few = [("a", pickled(shell()))]
    monkeypatch.setattr(fuzz, "seeds", lambda: iter(few))
    monkeypatch.setattr(fuzz, "SECONDS_EACH", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    try:
        current = tmp_path / "input"
        assert "raises KeyError" in fuzz.fuzz(5, 0, current, raises)[0]
        assert "takes more than 0.2 s" in fuzz.fuzz(5, 0, current, hangs)[0]
        assert "still fires" in fuzz.fuzz(5, 0, current, lies)[0]
        assert current.read_bytes() == few[0][1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_fuzzer_keeps_what_takes_a_new_way(tmp_path: Path) -> None:
    path = tmp_path / "input"
    ways = fuzz.Ways()
    path.write_bytes(pickled(b"}"))
    ways.follow(scan_file, path)
    assert ways.fresh > 50
    ways.follow(scan_file, path)
    assert ways.fresh == 0
    path.write_bytes(pickled(shell()))
    ways.follow(scan_file, path)
    assert ways.fresh > 0
