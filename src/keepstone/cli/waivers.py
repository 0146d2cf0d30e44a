"""`--waivers` and `--waiver-key`, for the commands that take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keepstone.cli.options import read_option_file

if TYPE_CHECKING:
    from keepstone.scan.vulnerabilities.waiver import Waivers

F = TypeVar("F", bound=Callable[..., Any])


def waiver_options(function: F) -> F:
    """The files of waivers, and whose waivers count."""
    function = click.option(
        "--waiver-key",
        "waiver_keys",
        multiple=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="Public key (PEM) of somebody whose waivers count.",
    )(function)
    return click.option(
        "--waivers",
        "waiver_files",
        multiple=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file of signed waivers (see `keepstone waive`).",
    )(function)


def read_waiver_options(files: tuple[Path, ...], keys: tuple[Path, ...]) -> Waivers:
    """The waivers of all the files that hold now. Raises as `read_waivers`."""
    from keepstone.core.ports import SystemClock
    from keepstone.identity.signing import load_public_key
    from keepstone.scan.vulnerabilities.waiver import Waivers, read_waivers

    known = {key.key_id: key for key in map(load_public_key, keys)}
    now, found = SystemClock().now_ms(), Waivers()
    for path in files:
        found += read_waivers(read_option_file(path), known, now, file=str(path))
    return found
