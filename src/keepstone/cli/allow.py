"""`keepstone allow`: sign a site's own list of names that pickles may use."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import passphrase
from keepstone.cli.output import say


@click.command("allow")
@click.argument("names", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--private-key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Private key (PEM, mode 0600) of whoever reviewed the names.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the signed list goes.  [default: NAMES.dsse]",
)
def command(names: Path, private_key: Path, out: Path | None) -> None:
    """Sign the list in NAMES (JSON), for `keepstone scan --allow`.

    Names that run code, open files or reach any attribute are refused.
    """
    from keepstone.errors import InputError
    from keepstone.files import write_atomic
    from keepstone.identity.signing import load_private_key
    from keepstone.scan.pickle.extension import sign_extension

    try:
        document = names.read_bytes()
    except OSError as error:
        raise InputError("allowlist.missing", f"Cannot read {names}: {error.strerror}.") from error
    key = load_private_key(private_key, passphrase())
    target = out or names.parent / (names.name + ".dsse")
    write_atomic(target, sign_extension(document, key).to_json(), mode=0o644)
    say(f"signed {names} with key {key.key_id[:16]}: {target}", mark="ok")
