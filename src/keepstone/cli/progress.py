"""What `up` shows while it works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from keepstone.cli.output import colours, say

if TYPE_CHECKING:
    from rich.status import Status


class Steps:
    """Tells each step on stderr as it ends, with a spinner meanwhile on a terminal."""

    def __init__(self) -> None:
        self._step = ""
        self._status: Status | None = None

    def __enter__(self) -> Steps:
        if colours(sys.stderr):
            from rich.console import Console
            from rich.status import Status

            self._status = Status("", console=Console(stderr=True))
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, step: str) -> None:
        self._step = step
        self._show(step)

    def copied(self, done: int, expected: int) -> None:
        self._show(f"{self._step} {100 * done // max(expected, 1)} %")

    def end(self, detail: str) -> None:
        say(f"{self._step:<7} {detail}", mark="ok")

    def warn(self, message: str) -> None:
        say(message, mark="warn")

    def _show(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
