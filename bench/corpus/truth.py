"""The ground truth of a corpus: every file opened by its loader, under an audit hook.

`python -m bench.corpus.truth FOLDER` writes FOLDER/truth.json: for each malicious file whether it
fired (*proven*) or not (*not proven here*, with the reason), and for each benign one that it
opened and did nothing else. The status is 1 where a benign file fired or would not open.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.corpus.write import read_manifest

MANY = 100
ROOT = Path(__file__).parent.parent.parent
PROVEN, NOT_PROVEN, QUIET, NOISY = "proven", "not proven here", "opened", "fired or failed"


def witness(folder: Path, cases: list[dict[str, Any]], *options: str) -> dict[str, dict[str, Any]]:
    """What each of `cases` did, by its path in the corpus."""
    asked = [case for case in cases if case["loader"] != "none"]
    lines = "".join(
        json.dumps({"path": str(folder.resolve() / case["path"]), "loader": case["loader"]}) + "\n"
        for case in asked
    )
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "KERAS_BACKEND": "torch",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.corpus.witness", *options],
        input=lines,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {case["path"]: answer for case, answer in zip(asked, answers, strict=True)}


def judge(case: dict[str, Any], answer: dict[str, Any] | None) -> dict[str, Any]:
    """The verdict of the witness on one case."""
    if answer is None:
        return {"truth": NOT_PROVEN if case["malicious"] else QUIET, "why": "no loader is here"}
    # Reports of what an import did on its way are not among the events.
    seen = list(answer["events"])
    seen += ["the mark"] if answer.get("mark") and "the mark" not in seen else []
    seen += [f"a new file {name}" for name in answer.get("made", ())]
    fired = bool(seen) or answer["end"] in ("memory", "exit", "late", "died")
    why = ", ".join(seen[:4]) or answer["error"] or answer["end"]
    if case["malicious"]:
        return {"truth": PROVEN if fired else NOT_PROVEN, "why": why}
    # A library that is missing proves nothing about the file.
    quiet = not fired and answer["end"] in ("loaded", "missing")
    return {"truth": QUIET if quiet else NOISY, "why": why}


def find_truth(
    folder: Path, paths: set[str] | None = None, *options: str
) -> dict[str, dict[str, Any]]:
    """The truth about the cases of the corpus in `folder`, or about those of `paths`."""
    cases = [
        case for case in read_manifest(folder)["files"] if paths is None or case["path"] in paths
    ]
    # One witness for each core: they stand in folders of their own.
    cores = len(os.sched_getaffinity(0)) if len(cases) > MANY else 1
    shares = [cases[core::cores] for core in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        found = list(pool.map(lambda share: witness(folder, share, *options), shares))
    answers = {path: answer for part in found for path, answer in part.items()}
    return {case["path"]: judge(case, answers.get(case["path"])) for case in cases}


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    found = find_truth(folder)
    (folder / "truth.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    counts = Counter(item["truth"] for item in found.values())
    print(", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    noisy = [path for path, item in found.items() if item["truth"] == NOISY]
    for path in noisy:
        print(f"{path}: benign, and {found[path]['why']}", file=sys.stderr)
    return 1 if noisy else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
