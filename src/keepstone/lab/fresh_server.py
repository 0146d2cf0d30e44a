"""The process that trainings are forked from: it has imported the caller's code, and never trains.

`keepstone.lab.fresh` starts it and says when a training begins and has ended. A child gets the
rows over a connection of its own, so none of them is ever here. When nobody is left at the other
end, whatever still trains is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pickle
import random
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from keepstone.errors import InputError, KeepstoneError
from keepstone.lab.refused import Refused

if TYPE_CHECKING:
    from keepstone.contract.validate import Array

# What the server says once it has imported the code.
READY = "ready"
# What is said to it: a training begins, for which a connection follows; it was trained; its process
# died, which is answered with how it ended.
TRAIN, TRAINED, DIED = "train", "trained", "died"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def main(descriptor: int, name: str) -> NoReturn:
    """Messages are a word and, for what was trained, the modules that the training imported."""
    # Nothing that is printed here is a result, and of a pipe's end no line waits for the next.
    sys.stdout = sys.stderr
    control = Connection(descriptor)
    # What cannot be imported, each training tells.
    _import([name.partition(":")[0]])
    child = 0
    # Whoever began all this may be gone.
    with contextlib.suppress(EOFError, OSError):
        control.send(READY)
        while True:
            word, modules = control.recv()
            if word == TRAIN:
                theirs = recv_handle(control)
                child = os.fork()
                if not child:
                    control.close()
                    _train(name, Connection(theirs))
                _lead(child)
                os.close(theirs)
                continue
            status, child = _ended(child, signal.SIGTERM), 0
            if word == DIED:
                control.send(status)
            _import(modules)
    if child:
        _ended(child, signal.SIGKILL)
    os._exit(0)


def _import(modules: Sequence[str]) -> None:
    """So that what a training imports for itself is not read anew by each of them."""
    for module in modules:
        with contextlib.suppress(BaseException):
            importlib.import_module(module)


def _lead(child: int) -> None:
    """Of a group with whatever the training starts: it ends with it."""
    with contextlib.suppress(OSError):
        os.setpgid(child, child)


def _ended(child: int, how: signal.Signals) -> int:
    """How the process ended by itself, if it has; else it does now."""
    with contextlib.suppress(ProcessLookupError):
        # Those who clean up behind others are left to: they do not mind SIGTERM.
        os.killpg(child, how)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _train(name: str, ours: Connection) -> NoReturn:
    """In the child: train once, and say what came of it."""
    try:
        _lead(0)
        _die_with_parent()
        x, y, seed = ours.recv()
        known = set(sys.modules)
        refused: Refused | None = None
        model = b""
        try:
            model = _trained(name, x, y, seed)
        except KeepstoneError as error:
            refused = Refused.of(error)
        sys.stderr.flush()
        _LIBC.fflush(None)
        ours.send((refused, sorted(set(sys.modules) - known)))
        ours.send_bytes(model)
    finally:
        # Nothing that was registered in the server for its end is this one's to do.
        os._exit(0)


def _die_with_parent() -> None:
    """Where the system knows how: nobody would end the training if the server were killed."""
    prctl = getattr(_LIBC, "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _trained(name: str, x: Array, y: Array, seed: int) -> bytes:
    """The model, pickled. Raises InputError `attack.train_failed`, `attack.unpicklable`."""
    package, _, attribute = name.partition(":")
    _begin_draws(seed)
    try:
        model = getattr(importlib.import_module(package), attribute)(x, y, seed)
    except KeepstoneError:
        raise
    # The caller's own code may raise anything; none of it is a fault of ours.
    except BaseException as error:
        raise InputError(
            "attack.train_failed",
            f"The training function raised {type(error).__name__}: {str(error)[:200]}",
            "It is called with rows (n, d), classes as numbers from 0 on, of which some may be"
            " missing, and a seed.",
        ) from error
    try:
        return pickle.dumps(model, protocol=5)
    # So may an object while it is pickled.
    except BaseException as error:
        raise unpicklable(error) from error


def _begin_draws(seed: int) -> None:
    """What a training draws of the libraries' own generators hangs on its seed alone, too."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def unpicklable(error: BaseException) -> InputError:
    return InputError(
        "attack.unpicklable",
        "Each training has a process of its own, and the model that it made cannot be handed"
        f" over: {type(error).__name__}: {str(error)[:200]}",
        "Return a model that can be pickled: of a class at the top of a module, without lambdas,"
        " locks or open files.",
    )
