"""Hold a coverage report to its floors: 85 % overall, every branch of what decides.

`python -m tools.floors build/coverage.json` reads what `coverage json` wrote.
"""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

OVERALL = 85.0
# A branch here that no test takes is a decision nobody has seen.
DECIDES = (
    "src/keepstone/ledger/tree.py",
    "src/keepstone/ledger/proof.py",
    "src/keepstone/ledger/verify.py",
    "src/keepstone/evidence/dsse.py",
    "src/keepstone/evidence/standing.py",
    "src/keepstone/evidence/verified.py",
    "src/keepstone/evidence/verify.py",
    "src/keepstone/identity/tokens.py",
    "src/keepstone/policy/*.py",
)


def judge(report: dict[str, Any]) -> list[str]:
    """Return one line for each floor that the report is below, or cannot be held to."""
    problems = []
    overall = report["totals"]["percent_covered"]
    if overall < OVERALL:
        problems.append(f"overall {overall:.1f} % is below {OVERALL:.0f} %")
    for pattern in DECIDES:
        files = {name: data for name, data in report["files"].items() if fnmatch(name, pattern)}
        if not files:
            problems.append(f"{pattern}: not in the report")
        for name, data in sorted(files.items()):
            missing = [f"line {line}" for line in data["missing_lines"]]
            missing += [f"{a} -> {b}" for a, b in data.get("missing_branches", [])]
            if missing:
                problems.append(f"{name}: not taken: {', '.join(missing)}")
    return problems


def main(arguments: list[str]) -> int:
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    problems = judge(report)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"coverage {report['totals']['percent_covered']:.1f} %, all of what decides")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
