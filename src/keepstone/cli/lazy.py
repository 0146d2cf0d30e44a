"""Groups of commands that import a command's file only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class Lazy(click.Group):
    """Finds each command in the file of this package that `files` gives for its name."""

    def __init__(self, *args: Any, files: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.files = files

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.files)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.files:
            return None
        module = importlib.import_module(f"keepstone.cli.{self.files[cmd_name]}")
        command: click.Command = module.command
        return command


class CommandOrGroup(Lazy):
    """A command with options and arguments of its own, unless the first word names another.

    `keepstone scan model.onnx` and `keepstone scan image DIR` are both read; a file that is
    called like one of the others is written `./image`.
    """

    allow_interspersed_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in self.files:
            ctx.args = list(args)
            return ctx.args
        return click.Command.parse_args(self, ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        # Asked for the path of another command: our arguments do not stand in it.
        return [one for one in params if ctx.command is self or isinstance(one, click.Option)]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return click.Command.collect_usage_pieces(self, ctx)

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.args:
            return click.Command.invoke(self, ctx)
        with ctx:
            name, command, rest = self.resolve_command(ctx, ctx.args)
            assert command is not None
            ctx.invoked_subcommand = name
            # Beside the command, not under it: its usage has none of this one's arguments.
            with command.make_context(f"{ctx.info_name} {name}", rest, parent=ctx.parent) as inner:
                return command.invoke(inner)
