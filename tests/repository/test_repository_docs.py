"""The pages speak of what exists: the symbols they walk through, the tests they name."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_SYMBOL = re.compile(r"`(keepstone(?:\.\w+)*):([\w.]+)`")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_PROMISE = re.compile(r"^- (?:.+\n(?:  .*\n)*)", re.MULTILINE)

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))


def missing_symbols(text: str) -> list[str]:
    """Every `module:name` of `text` that does not resolve."""
    missing = []
    for module, name in dict.fromkeys(_SYMBOL.findall(text)):
        try:
            value = importlib.import_module(module)
            for part in name.split("."):
                value = _member(value, part)
        except (ImportError, AttributeError):
            missing.append(f"{module}:{name}")
    return missing


def _member(value: object, name: str) -> object:
    # A dataclass's field without a default is no attribute of its class, and a symbol all the same.
    if isinstance(value, type) and name in getattr(value, "__annotations__", {}):
        return value.__annotations__[name]
    return getattr(value, name)


def missing_tests(text: str) -> list[str]:
    """Every `tests/file.py::test` of `text` that does not exist."""
    missing = []
    for file, name in dict.fromkeys(_TEST.findall(text)):
        path = ROOT / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        if not any(isinstance(n, functions) and n.name == name for n in ast.walk(tree)):
            missing.append(f"{file}::{name}")
    return missing


def promises(text: str) -> list[str]:
    """The items under each heading `Promised` of a page."""
    sections = re.split(r"^#+ ", text, flags=re.MULTILINE)
    return [
        item
        for section in sections
        if section.startswith("Promised")
        for item in _PROMISE.findall(section + "\n")
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_symbol_that_a_page_names_exists(page: str) -> None:
    assert missing_symbols((ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    assert missing_tests((ROOT / page).read_text(encoding="utf-8")) == []


def test_every_promise_names_a_test_that_attacks_it() -> None:
    found = promises((DOCS / "threats.md").read_text(encoding="utf-8"))

    assert len(found) > 20
    assert [promise for promise in found if not _TEST.search(promise)] == []


def test_the_life_of_a_prediction_walks_through_the_source() -> None:
    text = (DOCS / "life-of-a-prediction.md").read_text(encoding="utf-8")
    rooms = {module.split(".")[1] for module, _ in _SYMBOL.findall(text)}

    assert rooms >= {"scan", "evidence", "ledger", "policy", "vault", "gateway", "workspace"}


def test_a_page_that_names_what_is_gone_is_seen() -> None:
    text = (
        "`keepstone.errors:InputError` `keepstone.errors:Gone` `keepstone.gone:x`\n"
        "`keepstone.core.finding:Finding.rule` `keepstone.core.finding:Finding.gone`\n"
        "`tests/repository/test_repository_docs.py::promises` `tests/gone/test_gone.py::test_x`\n"
    )

    assert missing_symbols(text) == [
        "keepstone.errors:Gone",
        "keepstone.gone:x",
        "keepstone.core.finding:Finding.gone",
    ]
    assert missing_tests(text) == ["tests/gone/test_gone.py::test_x"]


def test_promises_are_read_item_by_item() -> None:
    text = (
        "## Someone\n\n### Promised\n\n- One\n  goes on.\n- Two.\n\n### Not promised\n\n- Three.\n"
    )

    assert [item.split()[1] for item in promises(text)] == ["One", "Two."]


def test_every_page_is_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {line.strip() for line in index.splitlines()}
    top = {path.stem for path in DOCS.glob("*.md")} - {"index"}

    assert top - listed == set()


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path],
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert built.returncode == 0, built.stderr
