"""Options that several commands share, and the settings they read from the environment."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from keepstone.cli.output import result_alone

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference, TokenAccess
    from keepstone.identity.signing import Signatory
    from keepstone.lab.targets.remote import Address
    from keepstone.vault.stores import StoreAddress
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


def contract_option(function: F) -> F:
    """`--contract`: what a model accepts that has no room to say it itself."""
    return click.option(
        "--contract",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="What the model accepts and returns (JSON), for formats that do not say it; it becomes"
        " a part of the artifact, and of its digest.",
    )(function)


def conditions_options(function: F) -> F:
    """`--version` and `--where`: which versions of its models a grant reaches."""
    function = click.option(
        "--where",
        multiple=True,
        metavar="ATTRIBUTE=VALUE",
        help="Only versions in the registry with this attribute; again for another value of it, or"
        " for another attribute that they must have as well. `stage` is where they stand.",
    )(function)
    return click.option(
        "--version",
        "versions",
        multiple=True,
        type=click.IntRange(1),
        help="Only this version in the registry; may be given again.",
    )(function)


def conditions(versions: tuple[int, ...], where: tuple[str, ...]) -> dict[str, Any]:
    """What `conditions_options` read, as the members of a grant. Raises a usage error."""
    found: dict[str, Any] = {"versions": list(versions)} if versions else {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not ATTRIBUTE=VALUE", param_hint="--where")
        found.setdefault("where", {}).setdefault(name, []).append(value)
    return found


def format_option(*formats: str) -> Callable[[F], F]:
    """`--format`, text first. In any other, the result is alone on stdout: see `emit`."""
    option = click.option(
        "--format",
        "style",
        type=click.Choice(["text", *formats]),
        default="text",
        show_default=True,
        help="How the result is printed.",
    )

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def alone(*arguments: Any, style: str, **given: Any) -> Any:
            with nullcontext() if style == "text" else result_alone():
                return function(*arguments, style=style, **given)

        return cast("F", option(alone))

    return decorate


def plain_http_option(function: F) -> F:
    """`--unsafe-plain-http`, for whatever serves."""
    return click.option(
        "--unsafe-plain-http",
        metavar="REASON",
        help="Serve without TLS, on loopback only; REASON is recorded.",
    )(function)


def key_file_option(function: F) -> F:
    """`--key-file`: act as the holder of an API key, not as the user of this machine."""
    return click.option(
        "--key-file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="A file (mode 0600) with an API key of this workspace: act as its principal."
        "  [default: the user of this machine]",
    )(function)


def as_principal(key_file: Path | None) -> dict[str, Any]:
    """Who asks, as a member of a request to the registry."""
    return {} if key_file is None else {"key": read_key_file(key_file)}


def read_key_file(path: Path) -> str:
    """What a key file holds, without the white space around it."""
    from keepstone.identity.signing import read_secret_file

    return read_secret_file(path, limit=4096).decode("utf-8", "replace").strip()


def whole(path: Path | None) -> str | None:
    """A path as another process finds it."""
    return None if path is None else str(path.absolute())


class KeyType(click.ParamType["KeyReference"]):
    """A key wherever it is: a path, a `pkcs11:` URI, or `awskms:///KEY`."""

    name = "key"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> KeyReference:
        from keepstone.identity.keystores.reference import parse_key_reference

        return parse_key_reference(value)


KEY = KeyType()


class StoreType(click.ParamType["StoreAddress"]):
    """A store of sealed models: `s3://..` or `oci://..`."""

    name = "store"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> StoreAddress:
        from keepstone.vault.stores import parse_store_address

        return parse_store_address(value)


STORE = StoreType()
_PLACES = "a file (PEM, mode 0600), pkcs11:URI, or awskms:///KEY"


def signer_option(function: F) -> F:
    """`--as KEY`: the private key of the person or system who signs this."""
    return click.option(
        "--as",
        "key",
        required=True,
        type=KEY,
        help=f"Private key of the signer: {_PLACES}. It is used here and never stored.",
    )(function)


def signing_key(reference: KeyReference) -> Signatory:
    """Open a key to sign with; what unlocks it comes from the environment."""
    from keepstone.identity.keystores import open_signing_key

    return open_signing_key(reference, passphrase=passphrase(), access=token_access())


def token_access() -> TokenAccess:
    """What opens a PKCS#11 token, as the environment says."""
    from keepstone.workspace.site import token_access

    return token_access(os.environ)


def read_option_file(path: Path, limit: int = 4 << 20) -> bytes:
    """A file that an option names. Raises InputError `file.unreadable`, `file.too_large`."""
    from keepstone.errors import InputError

    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError("file.unreadable", f"Cannot read {path}: {error.strerror}.") from error
    if len(data) > limit:
        raise InputError("file.too_large", f"{path} is larger than {limit} bytes.")
    return data


def address_of(url: str, model: str, key_file: Path | None, ca: Path | None) -> Address:
    """Where a model is asked, with what `--key-file` and `--ca` hold.

    Raises as `read_option_file`; InputError `target.bad_url`, `target.bad_key`.
    """
    from keepstone.lab.targets.remote import Address

    def text(path: Path | None) -> str | None:
        return None if path is None else read_option_file(path).decode("utf-8", "replace").strip()

    # The header file that `up` leaves is as good as the bare key.
    key = text(key_file)
    bare = None if key is None else key.rpartition(" ")[2]
    return Address.parse(url, model, bare, text(ca))


def incremental_option(function: F) -> F:
    """`--incremental`: do not read files whose metadata is as it was."""
    return click.option(
        "--incremental",
        is_flag=True,
        help="Do not read files whose device, inode, size, mtime and ctime are as they were the"
        " last time. For a look at a large folder; never good enough for a gate or a load.",
    )(function)


def trust_key_option(function: F) -> F:
    """`--trust-key`, a key's id or a file with the public key, read into the id."""
    return click.option(
        "--trust-key",
        metavar="ID|FILE",
        callback=_key_id,
        help="The workspace's gate key: its id, or a file with the public key (PEM). Needed the"
        " first time a bundle of its workspace is used here; the same key is asked for afterwards.",
    )(function)


def _key_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from keepstone.identity.signing import load_public_key

    if value is None or re.fullmatch(r"[0-9a-f]{64}", value):
        return value
    return load_public_key(Path(value)).key_id


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
