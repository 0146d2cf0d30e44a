"""Ask onnxruntime about a model in a child process under limits.

Promise: whatever the model does to the runtime, this process only sees an answer, a crash or a
limit, within a bounded time. The child has no standard input, an empty folder to stand in, a
bare environment, and no descriptor but the model's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.vault.load.onnx import CONFIGURATION

_CHILD = Path(__file__).with_name("child.py")
_MAX_ANSWER = 1 << 20
_LIMIT_SIGNALS = frozenset({signal.SIGXCPU, signal.SIGKILL, signal.SIGXFSZ})


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """`memory` is address space; `per_byte` more of it comes with each byte of the model."""

    memory: int = 3 << 30
    per_byte: int = 8
    cpu_seconds: int = 30
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Checked:
    """`result` is ok, refused, unsupported, limit, crash, changed or missing."""

    result: str
    detail: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = field(default=())


def check_with_runtime(
    descriptor: int,
    size: int,
    sha256: Digest,
    limits: CheckLimits | None = None,
    external: Mapping[str, int] | None = None,
) -> Checked:
    """Open the model behind `descriptor` in a child; `sha256` is what it must hash to.

    `external` are the open files that its weights lie in, by the names that it gives them.
    """
    limits, beside = limits or CheckLimits(), dict(external or {})
    size += sum(os.fstat(file).st_size for file in beside.values())
    memory = limits.memory + limits.per_byte * size
    # A copy of the descriptor's file, so that nobody's offset moves but the child's.
    handed = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with tempfile.TemporaryDirectory(prefix="keepstone-check-") as nowhere:
            command = [
                *(sys.executable, "-I", str(_CHILD)),
                *(str(handed), sha256.hex, str(memory), str(limits.cpu_seconds)),
                *(json.dumps(CONFIGURATION), json.dumps(beside)),
            ]
            with subprocess.Popen(  # noqa: S603  # our own interpreter and script
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=nowhere,
                env=_ENVIRONMENT,
                pass_fds=(handed, *beside.values()),
                start_new_session=True,
            ) as process:
                try:
                    answer = _read_answer(process, time.monotonic() + limits.seconds)
                finally:
                    _kill(process)
    finally:
        os.close(handed)
    return _understand(answer, process.returncode)


# One thread each: the numeric libraries would start one per core while they are imported.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def _read_answer(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What the child wrote, or None where it took too long or wrote too much."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    answer = b""
    while (left := deadline - time.monotonic()) > 0 and len(answer) <= _MAX_ANSWER:
        if select.select([pipe], [], [], left)[0]:
            piece = os.read(pipe, 1 << 16)
            if not piece:
                return answer if _ended(process, deadline) else None
            answer += piece
    return None


def _ended(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait for the child without collecting it: its number stays its own until it is killed."""
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return True
        time.sleep(0.002)
    return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it may have started: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _understand(answer: bytes | None, status: int) -> Checked:
    if answer is None:
        return Checked("limit", "it took too long")
    if status < 0:
        word = signal.Signals(-status).name
        kind = "limit" if -status in _LIMIT_SIGNALS else "crash"
        return Checked(kind, f"the checker was ended by {word}")
    try:
        found = json.loads(answer)
        result, detail = str(found["result"]), str(found.get("detail", ""))
        if result not in ("ok", "refused", "unsupported", "limit", "changed", "missing"):
            raise ValueError(result)
        inputs, outputs = found.get("inputs", []), found.get("outputs", [])
        return Checked(result, detail, tuple(map(str, inputs)), tuple(map(str, outputs)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Checked("crash", f"the checker ended with status {status} and no answer")
