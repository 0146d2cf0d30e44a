"""Scan what the vault holds: each artifact is unsealed into memory, judged, and let go again."""

from __future__ import annotations

from collections.abc import Callable

from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.scanner import scan_contents, unjudged
from keepstone.vault.files import FileStore
from keepstone.vault.keys import KeyEncryptionKey, load_kek
from keepstone.vault.seal import unseal
from keepstone.workspace.layout import read_identity
from keepstone.workspace.site import Site

# Called with the name of each artifact before it is scanned.
Observer = Callable[[str], None]


def scan_vault(site: Site, name: str | None = None, observer: Observer | None = None) -> ScanReport:
    """Scan every artifact of the vault, or those under `name`; reported as `vault:NAME@DIGEST`.

    Nothing is written, to the disk or the ledger. An artifact that does not unseal is not
    evaluated. Raises InputError `scan.missing` where nothing has the name, and what opening a
    workspace raises.
    """
    read_identity(site.layout)
    store, kek = FileStore(site.layout.vault), load_kek(site.layout.kek, site.passphrase)
    addresses = [one for one in store.addresses() if name in (None, one[1])]
    if name is not None and not addresses:
        raise InputError("scan.missing", f"The vault holds nothing called {name[:80]!r}.")
    reports: list[FileReport] = []
    for digest, held in addresses:
        shown = f"vault:{held}@{digest.short}"
        if observer is not None:
            observer(shown)
        reports += _scan(store, kek, digest, held, shown)
    return ScanReport(tuple(reports))


def _scan(
    store: FileStore, kek: KeyEncryptionKey, digest: Digest, name: str, shown: str
) -> tuple[FileReport, ...]:
    try:
        return scan_contents(unseal(store, kek, digest, name), shown).files
    except KeepstoneError as error:
        return (unjudged(shown, error.cause),)
