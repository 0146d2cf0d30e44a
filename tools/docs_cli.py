"""Write docs/cli.md: the help of every command, as the command line prints it.

`--check` compares instead of writing, so the page is always what runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
WIDTH = 92

_HEAD = """\
# Commands

Results go to stdout, people are spoken to on stderr. `--format json` prints one document that
carries its `schema`. Exit status: 0 ok; 1 findings, denied or verification failed; 2 usage or
input; 3 could not decide. A failure prints its [code](errors.md), its cause and the next step.

This page is made from the commands by `make generate`.
"""


def context_of(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    """A context as the command line makes it, at the page's width.

    With the command's own settings always: click keeps the help option that it made first.
    """
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **command.context_settings,
    )


def walk(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield each command, outermost first, with its full name and a context for its help."""
    context = context_of(command, name, parent)
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None and not child.hidden:
                yield from walk(child, child_name, context)


def render(root: click.Command, name: str) -> str:
    """Return the page for the command line `root`."""
    parts = [_HEAD]
    for path, command, context in walk(root, name):
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## {path}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    # Imported here, so that `walk` and `render` serve any command line.
    from keepstone.cli.main import cli

    page = render(cli, "keepstone")
    if "--check" not in arguments:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        print("docs/cli.md is not what the commands print: run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
