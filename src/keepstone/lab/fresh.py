"""Trainings that know nothing of each other: each in a process of its own.

Promise: what a training finds in memory is the caller's module as it was imported, its own rows and
its seed, whatever other trainings left behind: theirs was another process, forked like this one
from a server that has imported the module and never trained. The generators of `random`, NumPy and,
once it is imported, torch begin where the seed puts them. Whatever process a training started ends
with it, and all of them with us.

Blind spots: files that one training writes and another reads, and whatever else lies outside the
process. Cost: a fork (a few ms, more for a heavy module), the rows sent and the model sent back;
once, the import. Each has one thread, unless the environment says otherwise (`OMP_NUM_THREADS`):
threads that the import began would not live through a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import time
import weakref
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.fresh_server import DIED, TRAIN, TRAINED, unpicklable
from keepstone.lab.one_thread import ONE_THREAD

# How long one training may take.
PATIENCE_S = 3600.0
_GRACE_S = 1.0


class Fresh:
    """The function `package.module:name` of rows, classes and a seed.

    What it prints goes to stderr. A training that fails leaves nothing that runs.
    """

    def __init__(self, name: str, patience_s: float = PATIENCE_S) -> None:
        self._name, self._patience_s = name, patience_s
        self._server = _Server(name)

    def __call__(self, x: Array, y: Array, seed: int) -> Any:
        """Raises InputError `attack.train_failed`, `attack.unpicklable`, and whatever of ours the
        function raises."""
        if not self._server.close.alive:
            self._server = _Server(self._name)
        try:
            model = self._server.trained(x, y, seed, self._patience_s)
        except BaseException:
            self.close()
            raise
        try:
            # It comes from the caller's own code, which could as well have been called here.
            return pickle.loads(model)  # noqa: S301
        except Exception as error:
            raise unpicklable(error) from error

    def close(self) -> None:
        """End whatever still trains."""
        self._server.close()


class _Server:
    """The process that has imported the function."""

    def __init__(self, name: str) -> None:
        path = [one for one in sys.path if isinstance(one, str)]
        ours, theirs = socket.socketpair()
        with theirs:
            code = (
                f"import sys; sys.path[:] = {path!r};"
                f" from keepstone.lab.fresh_server import main; main({theirs.fileno()}, {name!r})"
            )
            self._process = subprocess.Popen(  # noqa: S603 # ourselves, with the caller's own name
                [sys.executable, "-c", code],
                # Sets of text are walked in one order, today and tomorrow.
                env={"PYTHONHASHSEED": "0", **ONE_THREAD, **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if sys.__stderr__ is None else 2,
                pass_fds=[theirs.fileno()],
                # Ctrl-C is for us, who end it then.
                start_new_session=True,
            )
        self._control = Connection(ours.detach())
        self._ready: str | None = None
        self.close = weakref.finalize(self, _close, self._control, self._process)

    def trained(self, x: Array, y: Array, seed: int, patience_s: float) -> bytes:
        """What a child of it trained, pickled."""
        until = time.monotonic() + patience_s
        try:
            if not self._ready:
                self._ready = _received(self._control, until)
            with self._forked() as child:
                child.send((x, y, seed))
                refused, modules = _received(child, until)
                model = child.recv_bytes()
        except TimeoutError as error:
            raise InputError(
                "attack.train_failed",
                f"A training took longer than {patience_s:g} s.",
                "Give each of them longer with --patience.",
            ) from error
        except (EOFError, OSError) as error:
            raise _died(self._status()) from error
        self._control.send((TRAINED, modules))
        if refused is not None:
            raise refused.error()
        return model

    def _forked(self) -> Connection:
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            self._control.send((TRAIN, []))
            send_handle(self._control, theirs.fileno(), self._process.pid)
        return ours

    def _status(self) -> int | None:
        """How the training's process ended; None if the server did, too."""
        try:
            self._control.send((DIED, []))
            status: int = self._control.recv()
        except (EOFError, OSError):
            return None
        return status


def _close(control: Connection, process: subprocess.Popen[bytes]) -> None:
    control.close()
    try:
        # It ends what trains, and itself.
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _received(connection: Connection, until: float) -> Any:
    if not connection.poll(max(0.0, until - time.monotonic())):
        raise TimeoutError
    return connection.recv()


def _died(status: int | None) -> InputError:
    if status is None:
        how = "The process that trainings are forked from ended"
    elif status < 0:
        how = f"The process of a training was killed by the signal {-status}"
    else:
        how = f"The process of a training ended with the status {status}"
    return InputError(
        "attack.train_failed",
        f"{how}, and gave no model.",
        "Look whether there is memory enough for it; a training function returns its model.",
    )
