"""Everything is pinned to one version, and the pins are what the extras need."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from tools import pins

ROOT = Path(__file__).parents[2]


def test_every_line_pins_one_exact_version_and_names_no_host() -> None:
    text = (ROOT / "constraints.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    assert len(pins.pinned(text)) == len(lines)
    assert "://" not in text


def test_the_environment_is_the_pinned_one() -> None:
    wanted = pins.pinned((ROOT / "constraints.txt").read_text())
    core = pins.closure([(pins.PROJECT, frozenset())]) - {pins.PROJECT}

    assert {name: metadata.version(name) for name in core} == {name: wanted[name] for name in core}


def test_sections_hold_each_package_once() -> None:
    groups = pins.sections()
    everything = [pin for group in groups.values() for pin in group]

    assert len(everything) == len(set(everything))
    assert any(pin.startswith("onnxruntime==") for pin in groups["core"])
    assert not any(pin.startswith(("onnx==", "scikit-learn==")) for pin in groups["core"])


def test_a_difference_is_named_whichever_way_it_goes() -> None:
    assert pins.differences({"a": "1", "b": "1"}, {"a": "2", "c": "1"}) == [
        "a: pinned 1, needed 2",
        "b: pinned 1, needed not at all",
        "c: pinned not at all, needed 1",
    ]


def test_check_fails_on_a_pin_that_is_not_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pins, "CONSTRAINTS", tmp_path / "constraints.txt")

    assert pins.main([]) == 0
    assert pins.main(["--check"]) == 0
    text = pins.CONSTRAINTS.read_text().replace("click==", "click==0.")
    pins.CONSTRAINTS.write_text(text)
    assert pins.main(["--check"]) == 1
    assert "click: pinned 0." in capsys.readouterr().err
