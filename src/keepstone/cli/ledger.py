"""`keepstone ledger`: read, prove and verify what happened."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import format_option, site_at, workspace_option
from keepstone.cli.output import emit_json, say


@click.group("ledger")
def command() -> None:
    """Read, prove and verify the tamper-evident ledger."""


@command.command("tail")
@click.option(
    "--count",
    "-n",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="How many entries.",
)
@workspace_option
@format_option("json")
def tail(count: int, root: Path, style: str) -> None:
    """Show the newest entries, oldest of them first."""
    from keepstone.workspace.history import newest, one_line

    entries = newest(site_at(root), count)
    if style == "json":
        emit_json({"schema": "keepstone.ledger-tail/v1", "entries": entries})
        return
    for entry in entries:
        click.echo(one_line(entry))


@command.command("show")
@click.argument("entry")
@workspace_option
def show(entry: str, root: Path) -> None:
    """Show one ENTRY (its id, or its index) whole, with a statement's payload opened."""
    from keepstone.workspace.history import entry_document

    emit_json(entry_document(site_at(root), entry))


@command.command("prove")
@click.argument("entry")
@click.option(
    "--input",
    "input_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The request's body, to be held against the entry.",
)
@click.option(
    "--output",
    "output_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The answer's body, to be held against the entry.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the C2SP tlog-proof goes, with the entry and its key inside.",
)
@workspace_option
@format_option("json")
def prove(
    entry: str,
    input_path: Path | None,
    output_path: Path | None,
    out: Path | None,
    root: Path,
    style: str,
) -> int:
    """Prove that ENTRY is in the ledger, open it, and hold a request and answer against it.

    The proof verifies offline against the ledger's public key. What is written with --out
    opens this entry alone. Exit status 1 when something does not match.
    """
    from keepstone.errors import Exit
    from keepstone.files import write_atomic
    from keepstone.workspace.proving import prove_entry

    proved = prove_entry(
        site_at(root),
        entry,
        input=None if input_path is None else _read(input_path),
        output=None if output_path is None else _read(output_path),
    )
    if out is not None:
        write_atomic(out, proved.text.encode())
    if style == "json":
        emit_json(proved.to_dict())
    else:
        for line in proved.lines():
            click.echo(line)
    return int(Exit.OK if proved.holds else Exit.NO)


@command.command("verify")
@click.option(
    "--require-outside", is_flag=True, help="Without a checkpoint kept outside, end with 3."
)
@click.option(
    "--proof",
    "proof_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Verify one proof file offline instead of a workspace's ledger.",
)
@click.option(
    "--vkey", help="With --proof: the ledger's verifier key, as `ledger checkpoint` prints it."
)
@workspace_option
@format_option("json")
def verify(
    require_outside: bool, proof_path: Path | None, vkey: str | None, root: Path, style: str
) -> int:
    """Re-hash every entry, check the tree, and hold it against the checkpoint kept outside.

    Exit status: 0 verified; 1 corrupt, rolled back or forked; 3 not evaluated, or no outside
    checkpoint with --require-outside.
    """
    from keepstone.errors import Exit, InputError

    if proof_path is not None:
        from keepstone.workspace.proving import verify_proof_file

        if vkey is None:
            raise InputError(
                "usage.vkey", "--proof needs --vkey.", "Get it from the ledger's owner."
            )
        proved = verify_proof_file(_read(proof_path), vkey)
        if style == "json":
            emit_json(proved.to_dict())
        else:
            for line in proved.lines():
                click.echo(line)
        return int(Exit.OK)
    from keepstone.workspace.reading import verify_ledger_of

    report = verify_ledger_of(site_at(root))
    if style == "json":
        emit_json(report.to_json())
    else:
        click.echo(f"{report.status}: {report.size} entries, root {report.root.hex()}")
        for fault in report.errors:
            click.echo(f"  {fault.code}: {fault.message}")
    if report.status == "verified":
        return int(Exit.OK)
    if report.status == "verified_no_outside":
        say(
            "No checkpoint is kept outside: the ledger's own operator could have rewritten it.",
            mark="warn",
        )
        return int(Exit.UNDECIDED if require_outside else Exit.OK)
    return int(Exit.UNDECIDED if report.status == "not_evaluated" else Exit.NO)


@command.command("checkpoint")
@workspace_option
@format_option("json")
def checkpoint(root: Path, style: str) -> None:
    """Sign the ledger's head now, keep it outside too, and print it.

    Keep a copy where the workspace's operator cannot reach it.
    """
    from keepstone.workspace.operations import perform
    from keepstone.workspace.proving import vkey_of

    site = site_at(root)
    answer = perform(site, "ledger.checkpoint", {})
    if style == "json":
        emit_json({"schema": "keepstone.checkpoint/v1", "vkey": vkey_of(site), **answer})
        return
    click.echo(answer["note"], nl=False)
    say(f"verifier key: {vkey_of(site)}")


@command.command("forget")
@click.argument("period")
@click.confirmation_option(prompt="No prediction of that month can ever be opened again. Go on?")
@workspace_option
def forget(period: str, root: Path) -> None:
    """Destroy the key of PERIOD (such as 2026-11): its commitments are closed for good.

    The entries stay and still verify; nobody can hold an input or answer against them again.
    """
    from keepstone.workspace.operations import perform

    perform(site_at(root), "ledger.forget", {"period": period})
    say(f"the key of {period} is destroyed", mark="ok")


def _read(path: Path) -> bytes:
    from keepstone.errors import InputError

    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("file.unreadable", f"Cannot read {path}: {error.strerror}.") from error
