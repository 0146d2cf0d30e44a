"""Fuzz the scanner's parsers, led by the lines that an input reaches.

`python -m tools.fuzz SECONDS [--seed N]` breaks files of the corpus over and over, and keeps each
that takes the scanner along a way that none took before. An input fails where the scanner raises or
says that one of its parts did, takes longer than it may, takes more memory than it may, or calls
clean what still fires. Failures are written to build/fuzz and the status is 1.

The scanner runs in a process of its own, so that one that crashes or hangs is a finding too.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from bench.corpus.mutate import mutate, seeds, still_fires
from keepstone.core.finding import Outcome
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import scan_file

ROOT = Path(__file__).parent.parent
FOUND = ROOT / "build" / "fuzz"
TRACED = str(ROOT / "src" / "keepstone")
SECONDS_EACH = 10.0
MEMORY_KIB = 1 << 20

Edge = tuple[CodeType, int, int]
Scan = Callable[[Path], FileReport]


class HangError(BaseException):
    """Not an Exception: the scanner turns those into a finding."""


class Ways:
    """The steps from line to line that inputs have taken so far."""

    def __init__(self) -> None:
        self.known: set[Edge] = set()
        self.fresh = 0

    def follow(self, scan: Scan, path: Path) -> FileReport:
        """Scan `path`; `fresh` says how many steps nothing had taken before."""
        self.fresh = 0
        sys.settrace(self._entered)
        try:
            return scan(path)
        finally:
            sys.settrace(None)

    def _entered(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(TRACED):
            return None
        last = 0
        known = self.known

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                edge = (code, last, frame.f_lineno)
                last = frame.f_lineno
                if edge not in known:
                    known.add(edge)
                    self.fresh += 1
            return step

        return step


def complain(report: FileReport, data: bytes) -> str:
    """Why the report on `data` is wrong; empty where it is not."""
    for item in report.findings:
        if item.message.startswith("The scanner failed"):
            return item.message
    if report.outcome is Outcome.CLEAN and still_fires(data):
        return "It is called clean and still fires."
    return ""


def _alarm(signum: int, frame: FrameType | None) -> None:
    raise HangError


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fuzz(seconds: float, seed: int, current: Path, scan: Scan = scan_file) -> tuple[str, int, int]:
    """Return what is wrong (empty: nothing), how many inputs were tried, how many were kept.

    `current` holds the input that is being tried, also after a crash of this process.
    """
    draw, ways = random.Random(seed), Ways()  # noqa: S311  # not a secret
    pool = [data for _, data in seeds()]
    draw.shuffle(pool)
    kept, tried, base = list(pool), 0, _peak_kib()
    deadline = time.monotonic() + seconds
    signal.signal(signal.SIGALRM, _alarm)
    waiting = list(pool)
    while time.monotonic() < deadline:
        # At first the files as they are, a few at a time between mutations of what is known.
        if waiting and tried % 2 == 0:
            data = waiting.pop()
        else:
            data = mutate(draw, draw.choice(kept), draw.choice(pool))
        current.write_bytes(data)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)
        try:
            wrong = complain(ways.follow(scan, current), data)
        except HangError:
            wrong = f"It takes more than {SECONDS_EACH:g} s."
        except Exception as error:  # noqa: BLE001  # an edge: this is what is looked for
            wrong = f"It raises {type(error).__name__}: {error}."
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        tried += 1
        if not wrong and _peak_kib() > base + MEMORY_KIB:
            wrong = f"It takes more than {MEMORY_KIB >> 10} MiB."
        if wrong:
            return wrong, tried, len(kept) - len(pool)
        if ways.fresh:
            kept.append(data)
    return "", tried, len(kept) - len(pool)


def _save(current: Path, wrong: str) -> Path:
    FOUND.mkdir(parents=True, exist_ok=True)
    data = current.read_bytes()
    path = FOUND / f"fail_{time.time_ns():x}.bin"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(wrong + "\n", "utf-8")
    return path


def watch(seconds: float, seed: int, current: Path) -> str:
    """Fuzz in a forked process; return what is wrong, be it only how that process ended."""
    back, out = os.pipe()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.close(back)
            wrong, tried, kept = fuzz(seconds, seed, current)
            os.write(out, f"{wrong}\n{tried} inputs, {kept} of them new ways\n".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(out)
    # A call into C that never returns hears no alarm.
    late = time.monotonic() + seconds + 3 * SECONDS_EACH
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > late:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(back)
            return "It does not return."
        time.sleep(0.02)
    said = os.read(back, 1 << 16).decode("utf-8").splitlines()
    os.close(back)
    if len(said) != 2:
        return "The process that scans it dies."
    print(said[1])
    return said[0]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="keepstone-fuzz-") as folder:
        current = Path(folder) / "input.bin"
        wrong = watch(given.seconds, given.seed, current)
        if wrong:
            print(f"{wrong} {_save(current, wrong)}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
