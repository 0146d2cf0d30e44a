"""What people read goes to stderr, results go to stdout; colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from keepstone.errors import Exit, KeepstoneError

if TYPE_CHECKING:
    from keepstone.core.finding import Outcome

# Where results go while everything else goes to stderr.
_RESULTS: ContextVar[TextIO | None] = ContextVar("results", default=None)


def colours(stream: Any) -> bool:
    """Whether `stream` takes colour: a terminal, and NO_COLOR is not set."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def say(message: str, *, mark: str = "") -> None:
    """Tell the person at the terminal something, on stderr."""
    styles = {"ok": "green", "warn": "yellow", "fail": "red"}
    prefix = ""
    if mark:
        prefix = (
            click.style(f"{mark:>4} ", fg=styles.get(mark))
            if colours(sys.stderr)
            else f"{mark:>4} "
        )
    click.echo(prefix + message, err=True)


def report_error(error: KeepstoneError) -> None:
    """Print the code, the cause and the next step to stderr."""
    head = f"error[{error.code}]:"
    if colours(sys.stderr):
        head = click.style(head, fg="red", bold=True)
    click.echo(f"{head} {error.cause}", err=True)
    if error.next_step:
        click.echo(f"  next: {error.next_step}", err=True)


def status_of(outcome: Outcome) -> int:
    """The exit status of a scan: clean, flagged, or what nobody could say."""
    from keepstone.core.finding import Outcome

    statuses = {
        Outcome.CLEAN: Exit.OK,
        Outcome.FLAGGED: Exit.NO,
        Outcome.NOT_EVALUATED: Exit.UNDECIDED,
    }
    return int(statuses[outcome])


def own_stdout() -> None:
    """For the rest of this process: what is not written to `sys.stdout` goes to stderr.

    A library that prints in C, or a program that somebody starts, writes to file descriptor 1,
    whatever `sys.stdout` is; some of it not before the process ends.
    """
    stream = sys.__stdout__
    if stream is None or sys.stdout is not stream:
        return
    kept = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY) if sys.__stderr__ is None else 2, 1)
    # Open as long as the process is.
    sys.stdout = open(  # noqa: SIM115
        kept, "w", encoding=stream.encoding, errors=stream.errors, closefd=False
    )


@contextmanager
def result_alone() -> Iterator[None]:
    """Meanwhile whatever is printed goes to stderr, but for what `emit` prints."""
    kept = _RESULTS.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _RESULTS.reset(kept)


def write_ready(path: Path, members: dict[str, Any]) -> None:
    """Write what a script needs to know of something that serves now; mode 0600, in one step."""
    from keepstone.files import write_atomic

    write_atomic(path, json.dumps(members).encode())


def emit_json(document: dict[str, Any]) -> None:
    """Print one JSON document; every one of them carries its `schema`."""
    if "schema" not in document:
        raise ValueError("a JSON result must carry its schema")
    emit(json.dumps(document, indent=2, ensure_ascii=False))


def emit(text: str, *, nl: bool = True) -> None:
    """Print a result that stands alone on stdout."""
    click.echo(text, file=_RESULTS.get(), nl=nl)


@contextmanager
def at_last(document: dict[str, Any], style: str, show: Callable[[], None]) -> Iterator[ExitStack]:
    """Print what was found after the block, as JSON or for people, whatever came of writing it.

    What the block gives to the stack is done before, and even where the block itself failed. The
    last failure goes on: it is the exit status.
    """
    with ExitStack() as ends:
        ends.callback(lambda: emit_json(document) if style == "json" else show())
        yield ends


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """Align `rows` under `head` in plain columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
