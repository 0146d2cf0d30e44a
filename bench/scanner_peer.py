"""One scanner, asked about one path after another; runs in that scanner's own environment.

`python scanner_peer.py SCANNER` reads a path a line and answers with a line of JSON: the path, the
verdict and the milliseconds. The verdict is what the scanner's own command would say by its exit
status: `flagged`, `clean` where the status is 0, and `not evaluated` for everything else. Each path
is looked at in a forked process under limits, so that a bomb ends that process and not the run.
With `--time` each is looked at in this process, three times, and the least time counts. What
follows `--warm` is looked at first, unasked: some scanners load half of themselves when needed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import select
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable

SECONDS = 30.0
MEMORY = 6 << 30
FLAGGED, CLEAN, OPEN = "flagged", "clean", "not evaluated"

Scan = Callable[[str], str]


def keepstone() -> Scan:
    from pathlib import Path

    from keepstone.scan.scanner import scan_paths

    # Its words are ours; a finding that leaves the file open has status 3.
    return lambda path: str(scan_paths([Path(path)]).outcome).replace("_", " ")


def picklescan(strict: bool = False) -> Scan:
    from picklescan import scanner  # type: ignore[import-not-found]

    def scan(path: str) -> str:
        look = scanner.scan_directory_path if os.path.isdir(path) else scanner.scan_file_path
        result = look(path, strict=strict)
        if result.issues_count:
            return FLAGGED
        # A file that it does not know has the status of one that is clean.
        return OPEN if result.scan_err else CLEAN

    return scan


def modelscan() -> Scan:
    from modelscan.modelscan import ModelScan  # type: ignore[import-not-found]
    from modelscan.settings import DEFAULT_SETTINGS  # type: ignore[import-not-found]

    def scan(path: str) -> str:
        model = ModelScan(settings=DEFAULT_SETTINGS)
        model.scan(path)
        if model.issues.all_issues:
            return FLAGGED
        return OPEN if model.errors or not model.scanned else CLEAN

    return scan


def fickling() -> Scan:
    import fickling as library  # type: ignore[import-not-found]

    def one(path: str) -> str:
        if zipfile.is_zipfile(path):
            results = list(library.scan_zip_archive(path).values())
        else:
            results = [library.scan_file(path)]
        if not results:
            return OPEN
        return CLEAN if all(results) else FLAGGED

    def scan(path: str) -> str:
        if not os.path.isdir(path):
            return one(path)
        found = [one_or_open(file) for file in files(path)]
        return next((word for word in (FLAGGED, OPEN) if word in found), CLEAN)

    def one_or_open(path: str) -> str:
        with contextlib.suppress(Exception):
            return one(path)
        return OPEN

    return scan


def modelaudit() -> Scan:
    from modelaudit import core  # type: ignore[import-not-found]

    def scan(path: str) -> str:
        result = core.scan_model_directory_or_file(path, cache_enabled=False)
        return {0: CLEAN, 1: FLAGGED}.get(core.determine_exit_code(result), OPEN)

    return scan


SCANNERS: dict[str, Callable[[], Scan]] = {
    "keepstone": keepstone,
    "picklescan": picklescan,
    "picklescan-strict": lambda: picklescan(strict=True),
    "modelscan": modelscan,
    "fickling": fickling,
    "modelaudit": modelaudit,
}


def files(folder: str) -> list[str]:
    return sorted(
        os.path.join(place, name) for place, _, names in os.walk(folder) for name in names
    )


def look(scan: Scan, path: str) -> dict[str, object]:
    started = time.perf_counter()
    try:
        verdict = scan(path)
    except BaseException:  # the edge: whatever it raised, it has not judged the file
        verdict = OPEN
    return {"verdict": verdict, "ms": (time.perf_counter() - started) * 1000}


def look_apart(scan: Scan, path: str) -> dict[str, object]:
    """`look` in a forked process; one that dies or goes on for too long has not judged."""
    back, out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            os.write(out, json.dumps(look(scan, path)).encode())
        finally:
            os._exit(0)
    os.close(out)
    ready, _, _ = select.select([back], [], [], SECONDS)
    said = os.read(back, 1 << 16) if ready else b""
    os.close(back)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads(said) if said else {"verdict": OPEN, "ms": SECONDS * 1000}


def main(arguments: list[str]) -> None:
    scan = SCANNERS[arguments[0]]()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # What the scanners print is for people.
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    if "--warm" in arguments:
        for path in arguments[arguments.index("--warm") + 1 :]:
            look(scan, path)
    for line in sys.stdin:
        path = line.rstrip("\n")
        if "--time" in arguments:
            each = [look(scan, path) for _ in range(3)]
            found = min(each, key=lambda one: float(str(one["ms"])))
        else:
            found = look_apart(scan, path)
        answers.write(json.dumps({"path": path, **found}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
