"""The core stays small: what it brings, measured in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Beside the empty environment, compiled files included: what a person installs.
LARGEST = 260_000_000
# Each belongs to an extra, or to nobody.
NOT_CORE = ("torch", "pandas", "spacy", "numba", "mlflow", "onnx", "scikit-learn", "sphinx")


def size_of(folder: Path) -> int:
    """Bytes on the disk under `folder`, each hard link once."""
    seen = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


@pytest.mark.slow
def test_the_core_is_small_and_holds_nothing_heavy(tmp_path: Path) -> None:
    environment = tmp_path / "core"
    constraints = str(ROOT / "constraints.txt")
    variables = os.environ | {
        "PIP_CONSTRAINT": constraints,
        "PIP_BUILD_CONSTRAINT": constraints,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    subprocess.run([ROOT / "tools" / "venv.sh", environment], check=True)
    empty = size_of(environment)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", ROOT]
    subprocess.run(install, env=variables, check=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()}
    helped = subprocess.run(
        [environment / "bin" / "keepstone", "--help"], capture_output=True, text=True, check=True
    )

    assert names.isdisjoint(NOT_CORE)
    assert size_of(environment) - empty < LARGEST
    assert "up" in helped.stdout


@pytest.mark.slow
def test_a_python_without_ensurepip_gets_an_environment_all_the_same(tmp_path: Path) -> None:
    # As Debian ships it: `venv` is there, what puts pip into it is in a package of its own.
    python = tmp_path / "python3.11"
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in *ensurepip*) exit 1 ;; esac\n'
        'case "$*" in "-m venv --without-pip "*) ;; "-m venv "*) exit 1 ;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    environment = tmp_path / "made"

    subprocess.run(
        [ROOT / "tools" / "venv.sh", environment],
        env=os.environ | {"PYTHON": str(python)},
        check=True,
    )

    subprocess.run([environment / "bin" / "pip", "--version"], check=True, capture_output=True)


def test_without_any_python_it_says_what_to_install(tmp_path: Path) -> None:
    for name in ("bash", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    ended = subprocess.run(
        [ROOT / "tools" / "venv.sh", tmp_path / "made"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 3
    assert "Python 3.11" in ended.stderr
