"""`keepstone keys`: API keys of an endpoint's callers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import (
    conditions,
    conditions_options,
    format_option,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say, table

F = TypeVar("F", bound=Callable[..., Any])


@click.group("keys")
def command() -> None:
    """Create, list, rotate and revoke API keys.

    A key can do what its roles grant on its models, and nothing else.
    """


def _out_option(function: F) -> F:
    """`--out`: the key goes into a file of its own, which is what --key-file takes."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write the key into this new file (mode 0600) and do not print it.",
    )(function)


def _show_secret(answer: dict[str, Any], style: str, out: Path | None) -> None:
    if out is not None:
        from keepstone.identity.signing import write_secret_file

        # One that cannot be written is lost: the key is stored as a hash alone.
        write_secret_file(out, f"{answer.pop('key')}\n".encode("ascii"))
        answer["file"] = str(out)
    if style == "json":
        emit_json({"schema": "keepstone.api-key/v1", **answer})
        return
    click.echo(answer["key"] if out is None else str(out))
    say(f"key {answer['key_id']} of {answer['principal']}, until {answer['expires']}", mark="ok")
    say("It is shown this once and stored only as a keyed hash.")


def _require_new(out: Path | None) -> None:
    """Before a key is minted that nowhere can be put."""
    from keepstone.files import exists

    if out is not None and out.exists():
        raise exists(out)


def _grants(grants: list[dict[str, Any]]) -> str:
    from keepstone.identity.principal import parse_grants

    return "; ".join(map(str, sorted(parse_grants(grants))))


@command.command("create")
@click.argument("principal")
@click.option(
    "--role",
    "roles",
    multiple=True,
    default=("caller",),
    show_default=True,
    help="A role of the policy file; may be given again.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model the roles reach; may be given again.  [default: every model]",
)
@conditions_options
@click.option(
    "--lifetime", type=DURATION, default="24h", show_default=True, help="How long it lives."
)
@_out_option
@workspace_option
@format_option("json")
def create(
    principal: str,
    roles: tuple[str, ...],
    models: tuple[str, ...],
    versions: tuple[int, ...],
    where: tuple[str, ...],
    lifetime: int,
    out: Path | None,
    root: Path,
    style: str,
) -> None:
    """Mint a key for PRINCIPAL (such as user:alice or service:checkout)."""
    from keepstone.workspace.operations import perform

    arguments = {
        "principal": principal,
        "roles": list(roles),
        "models": list(models) or ["*"],
        "lifetime_ms": lifetime,
        **conditions(versions, where),
    }
    _require_new(out)
    _show_secret(perform(site_at(root), "keys.create", arguments), style, out)


@command.command("list")
@workspace_option
@format_option("json")
def list_keys(root: Path, style: str) -> None:
    """List every key with its state; secrets are not stored and cannot be shown."""
    from keepstone.workspace.operations import perform

    answer = perform(site_at(root), "keys.list", {})
    if style == "json":
        emit_json({"schema": "keepstone.api-keys/v1", **answer})
        return
    rows = [
        (key["key_id"], key["principal"], _grants(key["grants"]), key["state"], key["expires"])
        for key in answer["keys"]
    ]
    click.echo(table(rows, ("key", "principal", "grants", "state", "expires")))


@command.command("rotate")
@click.argument("key_id")
@click.option(
    "--overlap",
    type=DURATION,
    default="1h",
    show_default=True,
    help="How long the old secret still works.",
)
@_out_option
@workspace_option
@format_option("json")
def rotate(key_id: str, overlap: int, out: Path | None, root: Path, style: str) -> None:
    """Give KEY_ID a new secret; the old one works for the overlap."""
    from keepstone.workspace.operations import perform

    arguments = {"key_id": key_id, "overlap_ms": overlap}
    _require_new(out)
    _show_secret(perform(site_at(root), "keys.rotate", arguments), style, out)


@command.command("revoke")
@click.argument("key_id")
@workspace_option
def revoke(key_id: str, root: Path) -> None:
    """End KEY_ID at once and for ever."""
    from keepstone.workspace.operations import perform

    perform(site_at(root), "keys.revoke", {"key_id": key_id})
    say(f"key {key_id} is revoked", mark="ok")
