"""The checker: one process that opens one model with onnxruntime and says what it saw.

Run as a script, isolated, by `scan.checker`; it imports nothing of this package. It limits
itself before it reads a byte of the model, since only code that it trusts has run by then.

    child.py DESCRIPTOR SHA256 MEMORY_BYTES CPU_SECONDS CONFIGURATION_JSON EXTERNAL_JSON

The last is an object of descriptors by the names of files that weights lie in.

It writes one JSON object to stdout: {"result": "ok" | "refused" | "unsupported" | "limit" |
"changed" | "missing", "detail", "inputs", "outputs"}.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import sys
from typing import Any


def limit(memory: int, seconds: int) -> None:
    """From here on: so much memory and time, no file written, no process started."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # The hard limit too: the model cannot raise what it could not reach.
        resource.setrlimit(kind, (most, most))
    # PR_SET_NO_NEW_PRIVS: no program it might start has more rights than it. Where the system
    # knows no such call, the limit on processes stands alone.
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(38, 1, 0, 0, 0)


def read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def judge(
    model: bytes, configuration: dict[str, str], external: dict[str, bytes]
) -> dict[str, Any]:
    import onnxruntime as ort  # type: ignore[import-untyped]
    from onnxruntime.capi import (  # type: ignore[import-untyped]
        onnxruntime_pybind11_state as state,
    )

    # First as it stands, then as the vault will load it: optimising may fold a small graph
    # into a large one, and must do so here first.
    level = ort.GraphOptimizationLevel
    session = None
    for optimisation in (level.ORT_DISABLE_ALL, level.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = optimisation
        for name, value in configuration.items():
            options.add_session_config_entry(name, value)
        if external:
            # Given like this, the runtime opens none of them itself.
            options.add_external_initializers_from_files_in_memory(
                list(external), list(external.values()), [len(data) for data in external.values()]
            )
        session = None
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except (MemoryError, state.NotImplemented) as error:
            kind = "limit" if isinstance(error, MemoryError) else "unsupported"
            return {"result": kind, "detail": describe(error)}
        except Exception as error:  # noqa: BLE001  # the edge of this process: all is reported
            return {"result": classify(str(error)), "detail": describe(error)}
    assert session is not None
    return {
        "result": "ok",
        "detail": "",
        "inputs": [value.name for value in session.get_inputs()],
        "outputs": [value.name for value in session.get_outputs()],
    }


# onnxruntime tells these apart only in words.
_WORDS = (
    ("bad_alloc", "limit"),
    ("bad allocation", "limit"),
    ("Failed to allocate", "limit"),
    ("Unsupported model IR version", "unsupported"),
    ("is under development", "unsupported"),
)


def classify(words: str) -> str:
    return next((result for part, result in _WORDS if part in words), "refused")


def describe(error: BaseException) -> str:
    """The error's words on one line. The runtime puts a place before the reason: keep the end."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else f"{words[:60]} ... {words[-235:]}"


def main(arguments: list[str]) -> None:
    descriptor, expected, memory, seconds, configuration, beside = arguments
    try:
        # Imported before the limits, since it is trusted and wants address space of its own.
        import onnxruntime  # noqa: F401
    except ImportError as error:
        answer: dict[str, Any] = {"result": "missing", "detail": describe(error)}
    else:
        limit(int(memory), int(seconds))
        try:
            model = read(int(descriptor))
            if hashlib.sha256(model).hexdigest() != expected:
                answer = {"result": "changed", "detail": ""}
            else:
                external = {name: read(file) for name, file in json.loads(beside).items()}
                answer = judge(model, json.loads(configuration), external)
        except MemoryError as error:
            answer = {"result": "limit", "detail": describe(error)}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    # Nothing of the model is torn down: the answer stands, the process goes.
    with contextlib.suppress(OSError):
        os.close(int(descriptor))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
