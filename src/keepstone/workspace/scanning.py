"""Scan what the vault holds: each artifact is unsealed into memory, judged, and let go again."""

from __future__ import annotations

from collections.abc import Callable

from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.artifact import scan_contents
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.scanner import unjudged
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.seal import look_into
from keepstone.vault.stores.port import BlobStore
from keepstone.vault.verified import Files
from keepstone.workspace.kek import current_kek
from keepstone.workspace.layout import read_identity
from keepstone.workspace.site import Site
from keepstone.workspace.store import opened_store

# Called with the name of each artifact before it is scanned.
Observer = Callable[[str], None]


def scan_vault(
    site: Site,
    name: str | None = None,
    observer: Observer | None = None,
    allowed: tuple[Added, ...] = (),
) -> ScanReport:
    """Scan every artifact of the vault, or those under `name`; reported as `vault:NAME@DIGEST`.

    Nothing is written, to the disk or the ledger. An artifact that does not unseal is not
    evaluated. Raises InputError `scan.missing` where nothing has the name, and what opening a
    workspace raises.
    """
    read_identity(site.layout)
    kek = current_kek(site)
    reports: list[FileReport] = []
    with opened_store(site.layout) as store:
        found = [one for one in store.addresses() if name in (None, one.name)]
        if name is not None and not found:
            raise InputError("scan.missing", f"The vault holds nothing called {name[:80]!r}.")
        for held in found:
            shown = f"vault:{held.name}@{held.digest.short}"
            if observer is not None:
                observer(shown)
            reports += _scan(store, kek, (held.digest, held.name), shown, allowed)
    return ScanReport(tuple(reports), allowed)


def _scan(
    store: BlobStore,
    kek: KeyEncryptionKey,
    address: tuple[Digest, str],
    shown: str,
    allowed: tuple[Added, ...],
) -> tuple[FileReport, ...]:
    def look(files: Files) -> tuple[FileReport, ...]:
        contents = {path: files.view(path) for path in files.paths}
        return scan_contents(contents, shown, allowed).files

    try:
        return look_into(store, kek, *address, look)
    except KeepstoneError as error:
        return (unjudged(shown, error.cause),)
