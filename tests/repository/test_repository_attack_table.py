"""The table of attacks beside their peers says where ours is not better, and hides nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import attacks_black, lab_attacks
from bench.beside import Beside, Side, keep, kept, table
from bench.run import check

ONE = Beside(
    "black box",
    "forest",
    200,
    Side("random-search", 0.04, 10.0, 0.5),
    Side("ART 1.20.1 hopskipjump", 0.6, 2400.0, 240.0),
    missed=1,
    found=113,
    strict=True,
    queries=0.1,
    cpu=0.1,
)
FAILED = Beside.of_failed("black box", "svc", "ART 1.20.1 geoda", "AttributeError: np.mat")


def with_ours(**changed: float) -> Beside:
    return replace(ONE, ours=replace(ONE.ours, **changed))


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (ONE, "met"),
        (with_ours(value=0.6), "not lower"),
        (replace(with_ours(value=0.6), strict=False), "met"),
        (replace(with_ours(value=0.61), strict=False), "higher"),
        # Nothing below the floor is there to be found.
        (replace(with_ours(value=0.6), least=0.6), "met"),
        (replace(with_ours(value=0.61), least=0.61), "not lower"),
        (with_ours(queries=240.1), "queries 0.10 x"),
        (with_ours(queries=480.0), "queries 0.20 x"),
        (replace(with_ours(queries=480.0), queries=None), "met"),
        (with_ours(cpu_s=24.1), "CPU 0.10 x"),
        (with_ours(cpu_s=240.0, value=0.7), "not lower, CPU 1.00 x"),
        (FAILED, "did not run"),
    ],
)
def test_the_verdict_says_what_is_missed(one: Beside, verdict: str) -> None:
    assert one.verdict == verdict


def test_the_table_counts_what_is_met_and_what_did_not_run() -> None:
    shown = table([ONE, with_ours(value=0.7), FAILED])
    lines = shown.splitlines()
    assert lines[0] == "black box: 1 of 2 met, 1 did not run"
    assert "met (113 more, 1 missed)" in lines[2]
    assert "0.53-0.67" in lines[2]
    assert lines[3].endswith("not lower (113 more, 1 missed)")
    # What did not run has no number, and its reason.
    assert lines[4].endswith("did not run: AttributeError: np.mat")
    assert not any(sign.isdigit() for sign in lines[4].replace("1.20.1", ""))


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    assert kept("attacks_black", tmp_path) is None
    keep("attacks_black", [ONE, FAILED], tmp_path)
    read = kept("attacks_black", tmp_path)
    assert read is not None
    assert read[1] == [ONE, FAILED]


def test_a_bench_that_was_not_run_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_attacks, "kept", lambda bench: None)
    assert "attacks_white: not measured" in lab_attacks.shown()
    assert not any(row["met"] for row in check(lab_attacks.rows()))

    monkeypatch.setattr(lab_attacks, "kept", lambda bench: ("today", [ONE, FAILED]))
    found = {row["name"]: row for row in check(lab_attacks.rows())}
    assert found["lab_attacks.black_box"]["met"]
    assert not found["lab_attacks.white_box"]["met"]
    monkeypatch.setattr(lab_attacks, "kept", lambda bench: ("today", [with_ours(value=0.7)]))
    assert not check(lab_attacks.rows())[1]["met"]


def test_each_library_s_best_attack_has_its_rows() -> None:
    other = replace(ONE, peer=Side("Foolbox 3.3.4 linf-noise", 0.5, 1001.0, 30.0))
    weak = replace(ONE, peer=replace(ONE.peer, attack="ART 1.20.1 zoo", value=0.9))
    alone = {"forest": {"scores": (Side("random-search", 0.05, 11.0, 0.5), 100)}}
    found = {row["name"]: row for row in check(attacks_black.made_rows([weak, ONE, other], alone))}
    assert found["attacks_black.forest.art.robust"]["peer"] == "ART 1.20.1 hopskipjump"
    assert found["attacks_black.forest.foolbox.queries"]["peer_value"] == 1001.0
    assert found["attacks_black.forest.attacks_reach"]["ours"] == 3
    assert all(row["met"] for row in found.values())
