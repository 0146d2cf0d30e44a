"""Run every benchmark, print one table, write build/bench.json.

`python -m bench.run [NAME...]` runs the files of this folder that have a `rows()`, or those named.
Each runs in a process of its own, so that no one's threads or memory weigh on the next. The status
is 1 where something could not be measured; a target that was missed is shown, and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
RESULT = ROOT / "build" / "bench.json"
FIELDS = ("name", "ours", "peer", "peer_value", "unit", "ratio", "target", "met")
# AutoAttack alone takes most of an hour where others use the machine.
TIMEOUT = 7200

_CHILD = """
import importlib, json, sys
rows = importlib.import_module(sys.argv[1]).rows()
with open(sys.argv[2], "w") as file:
    json.dump(rows, file)
"""

Row = dict[str, Any]


def names(folder: Path = FOLDER) -> list[str]:
    """The benchmarks of `folder`: each file that defines `rows`."""
    return sorted(p.stem for p in folder.glob("*.py") if "\ndef rows(" in p.read_text("utf-8"))


def check(rows: Any) -> list[Row]:
    """Return `rows` if each has exactly the fields of the result. Raises ValueError."""
    if not isinstance(rows, list):
        raise ValueError("rows() gave no list")
    for row in rows:
        if tuple(sorted(row)) != tuple(sorted(FIELDS)):
            raise ValueError(f"a row has the fields {sorted(row)}")
        if not isinstance(row["met"], bool):
            raise ValueError(f"{row['name']}: `met` is neither true nor false")
    return rows


def measure(name: str, package: str = "bench") -> list[Row]:
    """Run one benchmark in a process of its own. Raises ValueError, TimeoutExpired."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, f"{package}.{name}", str(result)],
            cwd=ROOT,
            check=False,
            timeout=TIMEOUT,
        )
        if child.returncode:
            raise ValueError(f"it ended with status {child.returncode}")
        return check(json.loads(result.read_text("utf-8")))


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "-" if value is None else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: list[Row]) -> str:
    """Return the rows in columns for people."""
    head = ("name", "ours", "peer", "peer's", "unit", "ratio", "target", "met")
    lines = [
        (
            str(row["name"]),
            _number(row["ours"]),
            str(row["peer"]),
            _number(row["peer_value"]),
            str(row["unit"]),
            _number(row["ratio"]),
            str(row["target"]),
            "yes" if row["met"] else "NO",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    shown = [head, tuple("-" * width for width in widths), *lines]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in shown
    )


def main(arguments: list[str]) -> int:
    known = names()
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        print(
            f"There is no benchmark {unknown[0]!r}; there are: {', '.join(known)}.", file=sys.stderr
        )
        return 2
    rows: list[Row] = []
    failed = []
    for name in arguments or known:
        print(f"measuring {name}", file=sys.stderr)
        try:
            rows += measure(name)
        except (ValueError, OSError, subprocess.SubprocessError) as error:
            failed.append(f"{name} could not be measured: {error}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    print(table(rows))
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
