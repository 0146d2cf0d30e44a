"""Recall and false alarms on a part of the planted corpus, and on this repository itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.planted.write import write_planted
from keepstone.scan.secrets.look import find_secrets

ROOT = Path(__file__).parents[2]
ENDINGS = (".py", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".sh", ".cfg", "")
FOLDERS = ("src", "tests", "bench", "tools", "docs", "examples")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, object]]]:
    # A carrier whose library is missing is left out; that leaves enough.
    folder = tmp_path_factory.mktemp("planted") / "corpus"
    # Another seed than the bench's.
    return folder, write_planted(folder, 7, each=11, rounds=1)["files"]


def _counts(folder: Path, files: list[dict[str, object]]) -> list[int]:
    return [
        sum(item.counts for item in find_secrets((folder / path).read_bytes(), path))
        for path in (str(file["path"]) for file in files)
    ]


def test_recall(planted: tuple[Path, list[dict[str, object]]]) -> None:
    folder, files = planted
    wanted = [file for file in files if file["family"] and not file["hold_out"]]
    missed = [
        file["path"]
        for file, count in zip(wanted, _counts(folder, wanted), strict=True)
        if not count
    ]
    assert len(wanted) >= 400
    assert len(missed) <= 0.02 * len(wanted), missed


def test_hold_outs_that_are_promised(planted: tuple[Path, list[dict[str, object]]]) -> None:
    folder, files = planted
    promised = ("joined lines", "base64", "json in json", "yaml block", "utf-16", "escaped")
    wanted = [file for file in files if file["hold_out"] and file["carrier"] in promised]
    found = sum(bool(count) for count in _counts(folder, wanted))
    assert found >= 0.95 * len(wanted)


def test_false_alarms(planted: tuple[Path, list[dict[str, object]]]) -> None:
    folder, files = planted
    honest = [file for file in files if not file["family"]]
    lines = sum(int(str(file["lines"])) for file in honest)
    alarms = {
        str(file["path"]): count
        for file, count in zip(honest, _counts(folder, honest), strict=True)
        if count
    }
    assert lines >= 5_000
    assert sum(alarms.values()) <= lines / 1000, alarms


def test_this_repository_holds_no_secret() -> None:
    # Nor does a test or the corpus's program: every token is made when it is needed.
    found = {}
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")):
        if path.is_file() and path.suffix in ENDINGS and "__pycache__" not in path.parts:
            items = [
                item.finding for item in find_secrets(path.read_bytes(), path.name) if item.counts
            ]
            if items:
                found[str(path.relative_to(ROOT))] = items
    assert not found


def test_one_seed_makes_one_corpus(tmp_path: Path) -> None:
    first = write_planted(tmp_path / "a", 3, each=2, rounds=0)["files"]
    second = write_planted(tmp_path / "b", 3, each=2, rounds=0)["files"]
    # A key under a passphrase has a salt, and OpenSSH's form a number of its own.
    fixed = [file for file in first if file["family"] not in ("locked pem", "openssh")]
    assert [file["path"] for file in first] == [file["path"] for file in second]
    assert all(
        (tmp_path / "a" / file["path"]).read_bytes() == (tmp_path / "b" / file["path"]).read_bytes()
        for file in fixed
        if file["carrier"] not in ("tar.gz", "nested", "joblib", "torch")
    )
