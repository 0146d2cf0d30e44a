"""Every guarded call goes into the workspace's ledger: changes before they happen, reads soon.

Reads wait in memory for the next write, half a second at most, and no more of them than fit: when
they cannot be written, nothing more is read.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from keepstone.errors import KeepstoneError, OperationalError
from keepstone.workspace.operations import perform
from keepstone.workspace.site import Site

_EVERY_S = 0.5
_MOST = 2_000
_BATCH = 500


class Recorder(Protocol):
    def read(self, call: Mapping[str, Any]) -> None:
        """Take note of a read. Raises OperationalError where notes are not written any more."""
        ...

    def change(self, call: Mapping[str, Any]) -> None:
        """Put a change, or a refusal, on the record; durable on return."""
        ...


class Nowhere:
    """For a server that has a trust bundle and no workspace: there is no ledger to write to."""

    def read(self, call: Mapping[str, Any]) -> None:
        pass

    def change(self, call: Mapping[str, Any]) -> None:
        pass


class LedgerRecorder:
    """Writes to the ledger of a workspace, through its owner where it has one."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._waiting: list[Mapping[str, Any]] = []
        self._change = threading.Condition()
        self._writing = threading.Lock()
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, name="keepstone-recorder", daemon=True).start()
        atexit.register(self._last)

    def read(self, call: Mapping[str, Any]) -> None:
        with self._change:
            if self._failure is not None or len(self._waiting) >= _MOST:
                raise OperationalError(
                    "mlflow.unrecorded",
                    "Reads cannot be put on the record, so nothing is read.",
                    "See what ails the workspace: keepstone doctor.",
                ) from self._failure
            self._waiting.append(call)
            self._change.notify()

    def change(self, call: Mapping[str, Any]) -> None:
        with self._change:
            self._waiting.append(call)
        try:
            self.flush()
        except BaseException:
            # It will not happen, so it must not be told later as if it had.
            with self._change:
                self._waiting = [one for one in self._waiting if one is not call]
            raise

    def flush(self) -> None:
        """Write what waits; durable on return. What cannot be written waits on, whatever went
        wrong, and this raises what recording raises.
        """
        # One at a time, in order: whoever comes second finds written what came before.
        with self._writing:
            with self._change:
                calls, self._waiting = self._waiting, []
            done, failure = 0, None
            try:
                while done < len(calls):
                    batch = [dict(one) for one in calls[done : done + _BATCH]]
                    perform(self._site, "registered.calls", {"calls": batch})
                    done += len(batch)
            except BaseException as error:
                failure = error
                raise
            finally:
                with self._change:
                    self._failure = failure
                    # None is dropped: while there is a failure no more reads come.
                    self._waiting = [*calls[done:], *self._waiting]
                    self._change.notify()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._waiting))
            time.sleep(_EVERY_S)
            # The thread's edge: what fails here `read` says to who asks, and the next turn tries
            # again. A thread that ended would leave every later read unwritten.
            with suppress(Exception):
                self.flush()

    def _last(self) -> None:
        with suppress(KeepstoneError):
            self.flush()
