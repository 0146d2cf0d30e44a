"""Coverage is held to its floors: by the whole, and by each branch of what decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools import floors


def _report(overall: float = 90.0, **changed: dict[str, Any]) -> dict[str, Any]:
    whole = {"missing_lines": [], "missing_branches": []}
    names = [pattern.replace("*", "gate") for pattern in floors.DECIDES]
    files = {name: changed.get(Path(name).stem, whole) for name in names}
    return {"totals": {"percent_covered": overall}, "files": files}


def test_a_full_report_passes() -> None:
    assert floors.judge(_report()) == []


def test_below_the_overall_floor() -> None:
    assert floors.judge(_report(84.9)) == ["overall 84.9 % is below 85 %"]


def test_one_branch_of_what_decides_is_enough_to_fail() -> None:
    report = _report(tree={"missing_lines": [], "missing_branches": [[7, 9]]})

    assert floors.judge(report) == ["src/keepstone/ledger/tree.py: not taken: 7 -> 9"]


def test_a_file_that_decides_and_is_not_measured_fails() -> None:
    report = _report()
    del report["files"]["src/keepstone/policy/gate.py"]

    assert floors.judge(report) == ["src/keepstone/policy/*.py: not in the report"]


def test_every_file_that_decides_exists() -> None:
    root = Path(__file__).parents[2]

    assert [pattern for pattern in floors.DECIDES if not list(root.glob(pattern))] == []


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps(_report(10.0)))

    assert floors.main([str(path)]) == 1
    assert "overall" in capsys.readouterr().err
    path.write_text(json.dumps(_report()))
    assert floors.main([str(path)]) == 0
