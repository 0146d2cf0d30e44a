"""Open the files of a corpus with their loaders and say what each one did.

Run as `python -m bench.corpus.witness`: a line of JSON comes in for each case, one goes out. Each
is opened in a process of its own, forked from this one, which has the libraries loaded. That
process has limits, stands in an empty folder, and reports every audit event that a load has no
use for. What would start a program, open a connection or change a file outside of the folder is
reported and then refused. Only for files of our own making: this is a witness, no sandbox.

Source: https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

from bench.corpus.case import CANARY, MARK, MissingError
from bench.corpus.loaders import LOADERS

# Of the processor, and by the clock.
SECONDS, PATIENCE = 10, 40.0
MEMORY = 4 << 30
PRELOADED = (
    *("numpy", "scipy.sparse", "scipy.io", "pandas", "sklearn.base", "sklearn.datasets"),
    *("sklearn.pipeline", "joblib", "cloudpickle", "dill", "yaml", "hydra.utils", "jinja2"),
    *("torch", "torch.jit", "torch.export", "h5py", "keras", "xgboost", "lightgbm", "catboost"),
    *("onnx", "onnxruntime", "safetensors.numpy", "skops.io", "lz4.frame", "py7zr", "pyarrow"),
    *("pyarrow.parquet", "logging.config", "xml.sax", "zipfile", "tarfile", "lzma", "bz2"),
    *("pydoc", "urllib.request", "asyncio", "multiprocessing", "requests", "httpx"),
)
# A load has no use for these; the first group is refused.
_REFUSED = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "os.killpg"),
    *("subprocess.Popen", "pty.spawn", "webbrowser.open", "resource.setrlimit"),
    *("socket.", "urllib.", "ftplib.", "imaplib.", "poplib.", "smtplib.", "telnetlib.", "nntplib."),
    *("http.client.", "signal.pthread_kill"),
)
_OUTSIDE_REFUSED = (
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod"),
    *("os.chown", "os.truncate", "os.utime", "os.setxattr", "shutil."),
)
_REPORTED = (
    *("os.putenv", "os.unsetenv", "os.chdir", "tempfile.", "sqlite3.connect", "sqlite3.enable"),
    *("builtins.input", "builtins.breakpoint", "sys.settrace", "sys.setprofile"),
    *("code.__new__", "function.__new__", "ctypes.dlopen", "ctypes.string_at"),
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_JOKES = ("antigravity.py", "this.py")


class RefusedError(Exception):
    """The audit hook forbids what was about to happen."""


class _Hook:
    """What the child reports, written at once: it may not live to say it later."""

    def __init__(self, out: int, folder: str, mark: str) -> None:
        self.out, self.folder, self.mark = out, folder, mark
        self.armed = True
        self.trusted = tuple({os.path.realpath(part) for part in sys.path if part} | {sys.prefix})
        self.known = {*sys.stdlib_module_names, *(name.partition(".")[0] for name in sys.modules)}

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        self.armed = False
        try:
            said, refuse = self.judge(event, arguments)
            if said:
                os.write(self.out, (json.dumps({"event": said[:200]}) + "\n").encode())
        finally:
            self.armed = True
        if refuse:
            raise RefusedError(said)

    def judge(self, event: str, arguments: tuple[Any, ...]) -> tuple[str, bool]:
        if event == "open":
            return self.opened(*arguments)
        if event.startswith(_REFUSED):
            return event, True
        if event.startswith(_OUTSIDE_REFUSED):
            path = arguments[0] if arguments else None
            return "" if self.unpacked(path) else event, not self.inside(path)
        if event == "exec":
            # Honest libraries make Python as they go: what such code then does is what counts.
            # But a module that `importlib` finds has no other event.
            name = os.path.basename(arguments[0].co_filename)
            return f"import {name}" if name in _JOKES else "", False
        if event == "import":
            return self.imported(*arguments[:2]), False
        if event.startswith(_REPORTED) and not _importing():
            return event, False
        return "", False

    def opened(self, path: Any, mode: Any, flags: Any) -> tuple[str, bool]:
        if isinstance(path, int):
            return "", False
        name = os.fsdecode(path)
        if os.path.basename(name) == CANARY:
            return f"open {CANARY}", False
        write = any(c in str(mode or "") for c in "wax+") or (
            isinstance(flags, int) and flags & _WRITES
        )
        if not write:
            return "", False
        if name == self.mark:
            return "the mark", False
        if self.unpacked(name):
            return "", False
        return "open for writing", not self.inside(name)

    def imported(self, module: str, file: Any) -> str:
        top = module.partition(".")[0]
        if f"{module}.py" in _JOKES or (file and os.path.basename(os.fsdecode(file)) == CANARY):
            return f"import {module}"
        if top in self.known or _importing(2):
            return ""
        found = importlib.util.find_spec(top)
        outside = found is not None and not str(found.origin).startswith(self.trusted)
        return f"import {module}" if outside else ""

    def inside(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.realpath(os.fsdecode(path)).startswith(self.folder + os.sep)

    def unpacked(self, path: Any) -> bool:
        """True for what lies where the loaders that unpack were told to put it."""
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        place = os.path.join(self.folder, "unpacked")
        return (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(place + os.sep)


def _importing(least: int = 1) -> bool:
    """True while a module is being imported from where the interpreter has its own."""
    frame, count = sys._getframe(1), 0
    while frame is not None and count < least:
        count += frame.f_code.co_name == "_find_and_load"
        frame = frame.f_back  # type: ignore[assignment]
    return count >= least


def _confine(folder: str) -> None:
    os.chdir(folder)
    Path(CANARY).write_bytes(b"canary\n")
    os.mkdir("unpacked")
    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, used + MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 64 << 20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    os.environ.update(TMPDIR=folder, HOME=folder)
    os.environ.pop("DISPLAY", None)
    tempfile.tempdir = folder
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def _child(case: dict[str, str], folder: str, out: int) -> None:
    """Open one case. Never returns."""
    mark = os.path.join(folder, "mark")
    os.environ[MARK] = mark
    _confine(folder)
    warnings.simplefilter("ignore")
    # What this process inherits to be done at its end is not the file's doing.
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    loader = LOADERS[case["loader"]]
    hook = _Hook(out, folder, mark)
    sys.addaudithook(hook)
    end: dict[str, Any] = {"end": "loaded", "error": ""}
    try:
        kept = loader(Path(case["path"]))
        atexit._run_exitfuncs()
        del kept
    except MissingError as error:
        end = {"end": "missing", "error": str(error)}
    except MemoryError:
        end = {"end": "memory", "error": "MemoryError"}
    except SystemExit:
        end = {"end": "exit", "error": "SystemExit"}
    except BaseException as error:  # the edge: whatever the file raised
        words = " ".join(str(error).split())[:160]
        end = {"end": "error", "error": f"{type(error).__name__}: {words}"}
    hook.armed = False
    _await_children()
    end["mark"] = os.path.exists(mark)
    # Libraries in C write without an audit event.
    end["made"] = sorted(set(os.listdir(folder)) - {"mark", "unpacked", CANARY})
    os.write(out, (json.dumps(end) + "\n").encode())


def _await_children() -> None:
    """Programs that it started without an audit event leave their mark a little later."""
    deadline = time.monotonic() + 2
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)


def watch(case: dict[str, str], seconds: float = PATIENCE) -> dict[str, Any]:
    """Open the case in a forked process; return its events and how it ended."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as place:
        return _watch(case, os.path.realpath(place), seconds)


def _watch(case: dict[str, str], folder: str, seconds: float) -> dict[str, Any]:
    back, out = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(back)
            os.setsid()
            _child(case, folder, out)
            code = 0
        finally:
            os._exit(code)
    os.close(out)
    said = bytearray()
    deadline = time.monotonic() + seconds
    late = False
    while True:
        ready, _, _ = select.select([back], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            late = True
            break
        piece = os.read(back, 1 << 16)
        if not piece:
            break
        # What reports without an end is stopped as well.
        said += piece if len(said) < 1 << 20 else b""
        if b'"end"' in piece:
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL) if late else None
    status = _status(child, 2.0)
    os.close(back)
    lines = [json.loads(line) for line in bytes(said).splitlines() if line.endswith(b"}")]
    ends = [line for line in lines if "end" in line]
    events = list(dict.fromkeys(line["event"] for line in lines if "event" in line))
    if ends:
        end = ends[0]
    else:
        how = "ran past the time" if late else f"the process ended with {status}"
        end = {"end": "late" if late else "died", "error": how, "mark": False}
    return {"events": events[:20], **end}


def _status(child: int, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            signalled = os.WIFSIGNALED(status)
            return f"signal {os.WTERMSIG(status)}" if signalled else f"{os.WEXITSTATUS(status)}"
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "a kill"


def main(arguments: list[str]) -> None:
    """`--bare`: nothing is loaded ahead, for a few cases that need little."""
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    for name in () if "--bare" in arguments else PRELOADED:
        # A library that is not here, or fails to import, is its loader's to miss.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for line in sys.stdin:
        case = json.loads(line)
        sys.stdout.write(json.dumps({"path": case["path"], **watch(case)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
