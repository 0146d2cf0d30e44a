"""Secrets planted in files, beside detect-secrets: what is found, and how often for nothing.

A planted file holds one secret: it counts as found where a scanner says anything of it. Honest
lines are those of the corpus, of this repository, and of installed packages; whatever is said of
them is a false alarm. Hold-outs are ways of writing that no pattern was made for: they have a row
and a table of their own. `python -m bench.leaks` prints every miss.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bench.environment import ROOT, python_of
from bench.planted.write import MANIFEST, write_planted

CORPUS = ROOT / "build" / "planted"
PEER = "detect-secrets"
# Source that others wrote, as it is installed here.
PACKAGES = ("click", "numpy", "jinja2", "httpx", "cryptography")
OWN = ("src", "tests", "bench", "tools", "docs", "examples")
ENDINGS = (".py", ".pyi", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".c", ".h", ".ipynb")

Files = list[dict[str, Any]]


def corpus() -> tuple[Path, Files]:
    """The corpus in build/, made anew when its program changed."""
    sources = sorted((ROOT / "bench" / "planted").glob("*.py"))
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = CORPUS.with_suffix(".stamp")
    if not stamp.exists() or stamp.read_text("ascii") != wanted:
        subprocess.run(["rm", "-rf", str(CORPUS)], check=True)
        write_planted(CORPUS)
        stamp.write_text(wanted, "ascii")
    files: Files = json.loads((CORPUS / MANIFEST).read_text("utf-8"))["files"]
    return CORPUS, files


def honest_sources() -> list[Path]:
    """Our own files, and those of packages that are installed."""
    folders = [ROOT / name for name in OWN]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent)
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in ENDINGS and path.is_file() and "__pycache__" not in path.parts
    ]


def ours(paths: list[Path]) -> list[int]:
    """How many secrets are found in each file."""
    from keepstone.scan.secrets.look import find_secrets

    return [
        sum(item.counts for item in find_secrets(path.read_bytes(), path.name)) for path in paths
    ]


def theirs(paths: list[Path]) -> list[int]:
    done = subprocess.run(
        [str(python_of(PEER)), str(Path(__file__).with_name("leaks_peer.py"))],
        input="".join(f"{path}\n" for path in paths),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if [answer["path"] for answer in answers] != [str(path) for path in paths]:
        raise RuntimeError(f"{PEER} did not answer for every file")
    return [len(answer["lines"]) for answer in answers]


def look() -> tuple[Files, int]:
    """Each file of the corpus with both counts; and the honest lines beyond the corpus."""
    folder, files = corpus()
    paths = [folder / file["path"] for file in files]
    more = honest_sources()
    for name, ask in (("ours", ours), ("theirs", theirs)):
        print(f"looking: {name}", file=sys.stderr)
        for file, count in zip(files, ask(paths), strict=True):
            file[name] = count
    lines = [path.read_bytes().count(b"\n") for path in more]
    for number, mine, other in zip(lines, ours(more), theirs(more), strict=True):
        files.append(
            {"path": "", "family": "", "hold_out": False, "lines": number, "carrier": "source"}
            | {"ours": mine, "theirs": other}
        )
    return files, sum(lines)


def _share(files: Files, name: str) -> float:
    return sum(bool(file[name]) for file in files) / len(files)


def _alarms(files: Files, name: str) -> float:
    """False alarms for each thousand honest lines."""
    alarms, lines = (sum(int(file[key]) for file in files) for key in (name, "lines"))
    return 1000 * alarms / lines


def _row(name: str, mine: float, other: float, unit: str, target: str, met: bool) -> dict[str, Any]:
    return {
        "name": f"leaks.{name}",
        "ours": mine,
        "peer": PEER,
        "peer_value": other,
        "unit": unit,
        "ratio": mine / other if other else None,
        "target": target,
        "met": met,
    }


def rows() -> list[dict[str, Any]]:
    files, _ = look()
    print(table(files))
    planted = [file for file in files if file["family"] and not file["hold_out"]]
    held = [file for file in files if file["hold_out"]]
    made = [file for file in files if not file["family"] and file["carrier"] != "source"]
    source = [file for file in files if file["carrier"] == "source"]
    found = []
    for name, part in (
        ("recall", planted),
        ("recall.notebooks", [one for one in planted if "notebook" in one["carrier"]]),
        (
            "recall.pickles",
            [one for one in planted if one["carrier"] in ("pickle", "pickle list", "joblib")],
        ),
    ):
        mine, other = _share(part, "ours"), _share(part, "theirs")
        found.append(_row(name, mine, other, "of planted", ">= .98", mine >= 0.98))
    mine, other = _share(held, "ours"), _share(held, "theirs")
    found.append(_row("recall.hold_out", mine, other, "of hold-outs", "none", True))
    for name, part in (("alarms", made), ("alarms.source", source)):
        mine, other = _alarms(part, "ours"), _alarms(part, "theirs")
        found.append(_row(name, mine, other, "per 1,000 lines", "<= 1", mine <= 1))
    return found


def table(files: Files) -> str:
    """A line for each carrier: found by us and by the peer, of how many."""
    total, mine, other = Counter[str](), Counter[str](), Counter[str]()
    for file in files:
        if file["family"]:
            name = f"{'(hold-out) ' if file['hold_out'] else ''}{file['carrier']}"
            total[name] += 1
            mine[name] += bool(file["ours"])
            other[name] += bool(file["theirs"])
    width = max(map(len, total))
    lines = [f"{'carrier'.ljust(width)}  ours  {PEER}  of"]
    lines += [
        f"{name.ljust(width)}  {mine[name]:4}  {other[name]:{len(PEER)}}  {total[name]}"
        for name in total
    ]
    return "\n".join(lines)


def main() -> int:
    files, lines = look()
    print(table(files))
    for file in files:
        if file["family"] and not file["ours"]:
            print(f"missed  {file['path']}")
        elif not file["family"] and file["ours"]:
            print(f"alarm   {file['path'] or 'source'} ({file['ours']})")
    print(f"{lines} honest lines beside the corpus")
    return 0


if __name__ == "__main__":
    sys.exit(main())
