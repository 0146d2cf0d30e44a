"""Hold the examples in README.md and docs/ against what runs.

In a fenced block marked `console`, a line that begins with `$ ` is a command. A `keepstone` command
must exist, take these options and values, and have what it requires; a `make` target must exist.
The lines after `keepstone ... --help` must be the help that it prints. In running text a command
in backticks may leave things out, and must name commands and options that exist.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from tools.docs_cli import context_of, walk

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([a-z]+\s[^`]*)`")
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
# Where a shell command ends; what follows is another one, or a file that takes its output.
_ENDS = frozenset({"|", "&&", "||", ";", ">", ">>", "2>", "&"})


@dataclass(slots=True)
class Example:
    """One command of a page, and what the page shows below it."""

    page: str
    line: int
    command: str
    output: list[str] = field(default_factory=list)


def examples(page: str, text: str) -> Iterator[Example]:
    """Yield every command of the `console` blocks in `text`, continuation lines joined."""
    for block in _FENCE.finditer(text):
        number = text.count("\n", 0, block.start(1)) + 1
        current: Example | None = None
        for offset, line in enumerate(block[1].splitlines()):
            if current and current.command.endswith("\\"):
                current.command = current.command[:-1].rstrip() + " " + line.strip()
            elif line.startswith("$ "):
                if current:
                    yield current
                current = Example(page, number + offset, line[2:])
            elif current:
                current.output.append(line)
        if current:
            yield current


def split(command: str) -> Iterator[list[str]]:
    """Yield the simple commands of a shell line, without comments and redirections."""
    words: list[str] = []
    for word in shlex.split(command, comments=True):
        if word in _ENDS:
            yield words
            words = []
        else:
            words.append(word)
    yield words


def check_click(root: click.Command, name: str, arguments: list[str]) -> str | None:
    """Return why `arguments` would be a usage error, or None. No file is looked at."""
    command, context = root, context_of(root, name)
    rest = list(arguments)
    while isinstance(command, click.Group):
        if not rest or rest[0] in context.help_option_names or rest[0] == "--version":
            return None
        child = command.get_command(context, rest[0])
        if child is None and any(isinstance(one, click.Argument) for one in command.params):
            # A command of its own too, and this is its argument.
            break
        if child is None:
            return f"`{context.command_path}` has no command {rest[0]!r}"
        context = context_of(child, rest.pop(0), context)
        command = child
    if set(rest) & {"-h", "--help"}:
        return None
    try:
        values, left, _ = command.make_parser(context).parse_args(list(rest))
    except click.UsageError as error:
        return f"`{context.command_path}`: {error.format_message()}"
    if left:
        return f"`{context.command_path}` does not take {' '.join(left)!r}"
    return _check_values(command, context, values)


def _check_values(
    command: click.Command, context: click.Context, values: dict[str, object]
) -> str | None:
    for parameter in command.params:
        value = values.get(parameter.name or "")
        shown = parameter.get_error_hint(context)
        if not value or type(value).__name__ == "Sentinel":
            if parameter.required:
                return f"`{context.command_path}` requires {shown}"
        elif isinstance(parameter.type, click.Choice):
            given = value if isinstance(value, (list, tuple)) else [value]
            wrong = [item for item in given if item not in parameter.type.choices]
            if wrong:
                return f"`{context.command_path}`: {shown} has no choice {wrong[0]!r}"
    return None


def check_mention(root: click.Command, name: str, words: list[str]) -> str | None:
    """Return why a command mentioned in running text is none: a name or an option unknown."""
    command, context = root, context_of(root, name)
    rest = list(words)
    while isinstance(command, click.Group) and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        child = command.get_command(context, rest[0])
        if child is None and any(isinstance(one, click.Argument) for one in command.params):
            # A command of its own too, and this is its argument.
            break
        if child is None:
            return f"`{context.command_path}` has no command {rest[0]!r}"
        context = context_of(child, rest.pop(0), context)
        command = child
    known = {o for parameter in command.get_params(context) for o in parameter.opts}
    options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    unknown = [option for option in options if option not in known]
    return f"`{context.command_path}` has no option {unknown[0]}" if unknown else None


def check_help(root: click.Command, name: str, example: Example, words: list[str]) -> str | None:
    """Return an error where the page shows another help than the command prints."""
    if words[-1] not in ("-h", "--help") or not any(example.output):
        return None
    wanted = " ".join([name, *words[1:-1]])
    for path, command, context in walk(root, name):
        if path == wanted:
            text = [line.rstrip() for line in command.get_help(context).splitlines()]
            shown = [line.rstrip() for line in example.output]
            return None if text == shown else f"`{wanted} --help` prints something else"
    return f"there is no `{wanted}`"


def check(root: click.Command, name: str, pages: dict[str, str], targets: set[str]) -> list[str]:
    """Return one line for each example that would not run."""
    problems = []
    for page, text in pages.items():
        for example in examples(page, text):
            for words in split(example.command):
                problem = None
                if words[:1] == [name]:
                    problem = check_click(root, name, words[1:])
                    problem = problem or check_help(root, name, example, words)
                elif words[:1] == ["make"]:
                    unknown = [w for w in words[1:] if "=" not in w and w not in targets]
                    problem = f"there is no `make {unknown[0]}`" if unknown else None
                if problem:
                    problems.append(f"{example.page}:{example.line}: {problem}")
        for span in _SPAN.finditer(text):
            words = re.split(r"[\s|]+", span[1])
            problem = check_mention(root, name, words[1:]) if words[0] == name else None
            if problem:
                line = text.count("\n", 0, span.start()) + 1
                problems.append(f"{page}:{line}: {problem}")
    return problems


def main() -> int:
    from keepstone.cli.main import cli

    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pages = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in paths
        if path.exists()
    }
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    problems = check(cli, "keepstone", pages, targets)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
