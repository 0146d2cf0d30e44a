"""Which registry a command asks: the workspace's own, or a server with `--registry`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keepstone.cli.options import (
    as_principal,
    read_key_file,
    site_at,
    trust_key_option,
    workspace_option,
)

if TYPE_CHECKING:
    from keepstone.workspace.registry.remote import RemoteRegistry

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_BEARER = "Authorization: Bearer "  # as `keepstone up` leaves a key, ready for curl


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom a command asks, and as whom: the options of `registry_options` as one value."""

    root: Path
    url: str | None
    key_file: Path | None
    ca: Path | None
    trust_key: str | None

    def perform(
        self, operation: str, arguments: dict[str, Any], *, wait_s: float = 60.0
    ) -> dict[str, Any]:
        """Have the registry do one operation. Raises what it raises."""
        if self.url is not None:
            from keepstone.workspace.registry.remote_operations import perform_remote

            return perform_remote(self.server(), operation, arguments)
        from keepstone.workspace.operations import perform

        who = as_principal(self.key_file)
        return perform(site_at(self.root), operation, arguments | who, wait_s=wait_s)

    def server(self) -> RemoteRegistry:
        """The registry that --registry names. Raises a usage error without a key for it."""
        from keepstone.workspace.registry.remote import connect

        if self.url is None or self.key_file is None:
            raise click.UsageError("--registry needs --key-file, the key to ask it with.")
        key = read_key_file(self.key_file).removeprefix(_BEARER)
        return connect(self.url, key=key, ca=self.ca, gate_key=self.trust_key)


def registry_options(function: F) -> F:
    """`--registry` and what goes with it, and `--workspace`: handed on as `asking`."""

    @functools.wraps(function)
    def inner(
        *args: Any,
        root: Path,
        registry: str | None,
        key_file: Path | None,
        ca: Path | None,
        trust_key: str | None,
        **kwargs: Any,
    ) -> Any:
        return function(*args, asking=Asking(root, registry, key_file, ca, trust_key), **kwargs)

    options = (
        click.option(
            "--registry",
            metavar="URL",
            envvar="KEEPSTONE_REGISTRY",
            show_envvar=True,
            help="Ask this server (https://HOST:PORT).  [default: the workspace's own registry]",
        ),
        click.option(
            "--key-file",
            type=_FILE,
            envvar="KEEPSTONE_KEY_FILE",
            show_envvar=True,
            help="A file (mode 0600) with an API key: act as its principal."
            "  [default: the user of this machine]",
        ),
        click.option(
            "--ca",
            type=_FILE,
            envvar="KEEPSTONE_CA",
            show_envvar=True,
            help="The authority (PEM) of the server's certificate.  [default: the system's]",
        ),
        trust_key_option,
        workspace_option,
    )
    wrapped: Any = inner
    for option in reversed(options):
        wrapped = option(wrapped)
    found: F = wrapped
    return found
