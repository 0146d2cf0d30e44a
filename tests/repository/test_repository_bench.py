"""The bench collects what each file measures, in one form, and hides no failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import environment, run

ROW: dict[str, Any] = {
    "name": "door.open",
    "ours": 12_345.6,
    "peer": "window",
    "peer_value": 2.0,
    "unit": "1/s",
    "ratio": 6172.8,
    "target": ">= 2 x",
    "met": True,
}


def test_every_file_that_measures_is_found_and_no_other() -> None:
    assert "cli" in run.names()
    assert not {"run", "environment"} & set(run.names())


@pytest.mark.parametrize(
    "rows",
    [
        {},
        [{key: value for key, value in ROW.items() if key != "met"}],
        [ROW | {"more": 1}],
        [ROW | {"met": "yes"}],
    ],
)
def test_a_row_of_another_form_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"rows|row has|met"):
        run.check(rows)


def test_the_table_shows_what_was_missed() -> None:
    lines = run.table([ROW, ROW | {"name": "door.close", "met": False}]).splitlines()

    assert lines[2].split() == [
        "door.open",
        "12,346",
        "window",
        "2",
        "1/s",
        "6,173",
        ">=",
        "2",
        "x",
        "yes",
    ]
    assert lines[3].endswith("NO")


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "RESULT", tmp_path / "build" / "bench.json")
    monkeypatch.setattr(run, "names", lambda: ["good", "bad"])
    return run.RESULT


def test_what_could_be_measured_is_kept_when_something_could_not(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(name: str) -> list[dict[str, Any]]:
        if name == "bad":
            raise ValueError("no rows")
        return [ROW]

    monkeypatch.setattr(run, "measure", measure)

    assert run.main([]) == 1
    assert json.loads(result.read_text()) == [ROW]
    assert "bad could not be measured: no rows" in capsys.readouterr().err
    assert run.main(["good"]) == 0


def test_an_unknown_name_is_refused(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["nonesuch"]) == 2
    assert "good, bad" in capsys.readouterr().err


def test_a_benchmark_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yard").mkdir()
    (tmp_path / "yard" / "door.py").write_text(f"def rows():\n    return [{ROW!r}]\n")
    (tmp_path / "yard" / "broken.py").write_text("def rows():\n    return 1\n")
    monkeypatch.setattr(run, "ROOT", tmp_path)

    assert run.measure("door", "yard") == [ROW]
    with pytest.raises(ValueError, match="no list"):
        run.measure("broken", "yard")


def test_every_peer_is_pinned_exactly() -> None:
    for path in environment.PINS.glob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
        assert lines, path.name
        assert [line for line in lines if "==" not in line] == [], path.name
