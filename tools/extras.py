"""What the development environment holds, read from pyproject.toml: nothing is listed twice.

`python -m tools.extras` prints the requirements that `make dev` installs, one a line: the package
with every extra, and what builds it. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def extras() -> tuple[str, ...]:
    """The names of the extras, in the order of the file."""
    return tuple(_pyproject()["project"]["optional-dependencies"])


def main() -> int:
    print(f".[{','.join(extras())}]")
    # An editable install needs a builder's helper beside the builder itself.
    print(*_pyproject()["build-system"]["requires"], "editables", sep="\n")
    return 0


def _pyproject() -> dict[str, dict[str, dict[str, list[str]]]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


if __name__ == "__main__":
    sys.exit(main())
