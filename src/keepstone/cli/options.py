"""Options that several commands share, and the settings they read from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from keepstone.workspace.site import Site

F = TypeVar("F", bound=Callable[..., Any])


def workspace_option(function: F) -> F:
    """`--workspace`, else KEEPSTONE_WORKSPACE, else `.keepstone` in the current folder."""
    return click.option(
        "--workspace",
        "-w",
        "root",
        envvar="KEEPSTONE_WORKSPACE",
        default=".keepstone",
        show_default=True,
        show_envvar=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="The workspace folder.",
    )(function)


def format_option(*formats: str) -> Callable[[F], F]:
    """`--format`, text first."""
    return click.option(
        "--format",
        "style",
        type=click.Choice(["text", *formats]),
        default="text",
        show_default=True,
        help="How the result is printed.",
    )


def signer_option(function: F) -> F:
    """`--as KEY`: the private key of the person or system who signs this."""
    return click.option(
        "--as",
        "key",
        required=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="Private key (PEM, mode 0600) of the signer; it is read here and never stored.",
    )(function)


def site_at(root: Path) -> Site:
    """The workspace at `root`, with what the environment says about it."""
    from keepstone.workspace.site import Site

    return Site.at(root, os.environ)


def passphrase() -> bytes | None:
    """KEEPSTONE_PASSPHRASE, which protects the workspace's keys and encrypted signer keys."""
    value = os.environ.get("KEEPSTONE_PASSPHRASE")
    return value.encode() if value else None


def outside_folder() -> Path:
    """Where checkpoints are kept outside every workspace, by this process's environment."""
    from keepstone.workspace.site import outside_folder as find

    return find(os.environ)
