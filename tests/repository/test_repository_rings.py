"""The rings hold, and the checker that says so sees each way of breaking them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import rings

ROOT = Path(__file__).parents[2]


def _package(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "keepstone"
    for name, text in {"__init__.py": '__version__ = "1"\n', **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(package).parents:
            (package / parent / "__init__.py").touch()
    return package


def _rules(folder: Path, files: dict[str, str]) -> list[tuple[str, str, int]]:
    return [(v.rule, v.path, v.line) for v in rings.check(_package(folder, files))]


def test_this_repository_keeps_its_rings() -> None:
    assert [str(violation) for violation in rings.check(ROOT / "src" / "keepstone")] == []


@pytest.mark.parametrize(
    ("file", "source", "rule"),
    [
        ("attic/box.py", "", "undeclared"),
        ("attic.py", "", "undeclared"),
        ("core/digest.py", "from keepstone.policy import gate\n", "outward"),
        ("core/digest.py", "import keepstone.cli.main\n", "outward"),
        ("ledger/log.py", "from ..vault import seal\n", "outward"),
        ("ledger/log.py", "def late():\n    from keepstone.gateway import app\n", "outward"),
        (
            "policy/gate.py",
            "import typing\nif typing.TYPE_CHECKING:\n    import keepstone.vault.seal\n",
            "outward",
        ),
        ("policy/gate.py", "from keepstone import serve\n", "outward"),
        ("scan/zip.py", "from keepstone.data import rows\n", "sibling"),
        ("governance/card.py", "import keepstone.gateway.app\n", "sibling"),
        ("gateway/app.py", "from keepstone.lab.attacks import fgsm\n", "lab"),
        ("gateway/app.py", "import torch.nn\n", "heavy"),
        ("contract/onnx.py", "import onnx\n", "heavy"),
        ("core/fast.py", "import numpy as np\n", "core"),
        ("errors.py", "import click\n", "core"),
        ("core/late.py", "import importlib\n", "dynamic"),
        ("core/late.py", "from importlib import import_module\n", "dynamic"),
        ("core/late.py", "value = __import__('numpy')\n", "dynamic"),
        ("core/late.py", "value = eval('1')\n", "dynamic"),
    ],
)
def test_each_way_out_is_seen(tmp_path: Path, file: str, source: str, rule: str) -> None:
    found = _rules(tmp_path, {file: source})

    assert (rule, f"keepstone/{file}") in [(r, path) for r, path, _ in found]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("ledger/log.py", "from keepstone.core.digest import Digest\nimport sqlite3\n"),
        ("cli/up.py", "def run():\n    from keepstone.workspace.flows import up\n"),
        ("vault/load/torch.py", "def load():\n    import torch\n"),
        ("workspace/flows.py", "import keepstone.lab.attacks\n"),
        ("evidence/predicates.py", "from keepstone import __version__\n"),
        ("core/__init__.py", "from . import digest\n"),
    ],
)
def test_what_points_inward_passes(tmp_path: Path, file: str, source: str) -> None:
    assert _rules(tmp_path, {"core/digest.py": "", file: source}) == []


def test_a_circle_of_modules_is_named_once(tmp_path: Path) -> None:
    files = {
        "ledger/tree.py": "from keepstone.ledger import proof\n",
        "ledger/proof.py": "def late():\n    from keepstone.ledger.store import rows\n",
        "ledger/store.py": "from .tree import leaf\n",
    }

    found = rings.check(_package(tmp_path, files))

    assert [(v.rule, v.message) for v in found] == [
        ("cycle", "keepstone.ledger.proof <-> keepstone.ledger.store <-> keepstone.ledger.tree")
    ]


def test_an_import_for_types_alone_closes_no_circle(tmp_path: Path) -> None:
    files = {
        "ledger/tree.py": "from keepstone.ledger import proof\n",
        "ledger/proof.py": (
            "import typing\nif typing.TYPE_CHECKING:\n    from keepstone.ledger import tree\n"
        ),
    }

    assert _rules(tmp_path, files) == []


def test_every_room_is_on_one_ring() -> None:
    rooms = [room for ring in rings.RINGS for room in ring]

    assert len(rooms) == len(set(rooms))


def test_the_command_line_says_where_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = _package(tmp_path, {"core/fast.py": "\nimport numpy\n"})

    assert rings.main([str(package)]) == 1
    assert "keepstone/core/fast.py:2: [core] core may not import numpy" in capsys.readouterr().err
    (package / "core" / "fast.py").unlink()
    assert rings.main([str(package)]) == 0
