"""Back up a workspace into one file, and restore it only where everything in it checks out.

The file is a tar of the workspace's own files, the ledger as one consistent snapshot, and a
manifest of every path, size and digest. It holds the workspace's keys: whoever reads it can
open the vault, unless the keys are under a passphrase. Sealed models in a store elsewhere are not
in it: the file names that store.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, check_relative_path
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.files import make_private_directory, storage_errors, sync_directory, write_atomic
from keepstone.ledger import LedgerReader
from keepstone.ledger.verify import LedgerReport, Status
from keepstone.ledger.witness import OutsideCheckpoints
from keepstone.workspace.layout import Layout, read_identity
from keepstone.workspace.reading import verify_ledger_of
from keepstone.workspace.site import Site
from keepstone.workspace.store import read_store_address

SCHEMA = "keepstone.backup/v1"
_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 64 << 20
# What is made anew, or belongs to the running process alone.
_LEFT_OUT = frozenset({"owner.lock", "control.sock", "staging", "api-key.header"})


@dataclass(frozen=True, slots=True)
class Backup:
    """What was backed up or restored."""

    files: int
    bytes: int
    ledger_size: int
    keys_encrypted: bool
    # The store that the sealed models lie in, where they are not in the file.
    elsewhere: str | None = None


def _files(layout: Layout) -> Iterator[Path]:
    for folder, names, files in os.walk(layout.root):
        here = Path(folder)
        names[:] = sorted(name for name in names if name not in _LEFT_OUT)
        for name in sorted(files):
            path = here / name
            ledger_file = here == layout.ledger.parent
            if name not in _LEFT_OUT and not ledger_file and not name.startswith("."):
                yield path


def _digest(path: Path, name: str) -> FileDigest:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileDigest(name, file.tell(), Digest(digest.hexdigest()))


def keys_encrypted(layout: Layout) -> bool:
    """Whether the observer's key file, and with it every key here, is under a passphrase."""
    return b"ENCRYPTED" in (layout.keys / "observer.pem").read_bytes()[:64]


def back_up(site: Site, target: Path) -> Backup:
    """Write the workspace into `target` (mode 0600), beside a running owner if there is one.

    Raises InputError `workspace.missing`, `file.exists`; OperationalError `disk.full`,
    `backup.rotating`.
    """
    layout = site.layout
    read_identity(layout)
    kek = _settled_kek(layout)
    if target.exists():
        raise InputError("file.exists", f"{target} already exists.", "Choose another file.")
    if target.absolute().parent.resolve().is_relative_to(layout.root.resolve()):
        raise InputError(
            "backup.inside", f"{target} lies in the workspace itself.", "Keep it elsewhere."
        )
    with (
        storage_errors(target),
        tempfile.TemporaryDirectory(
            prefix="keepstone-backup-", dir=target.absolute().parent
        ) as folder,
    ):
        snapshot = Path(folder) / "ledger.db"
        with LedgerReader.open(layout.ledger) as reader:
            reader.snapshot(snapshot)
        with LedgerReader.open(snapshot) as copied:
            ledger_size = copied.size()
        sources = {"ledger/ledger.db": snapshot}
        for number, path in enumerate(_files(layout)):
            name = path.relative_to(layout.root).as_posix()
            # Sealed blobs never change; what an owner may write meanwhile is copied first.
            if layout.vault not in path.parents:
                path = Path(shutil.copyfile(path, Path(folder) / str(number)))
            sources[name] = path
        listing = [_digest(path, name) for name, path in sorted(sources.items())]
        packed = Path(folder) / "backup.tar"
        _pack(packed, listing, sources)
        if _settled_kek(layout) != kek:
            raise _rotating()
        packed.chmod(0o600)
        packed.rename(target)
        sync_directory(target.absolute().parent)
    total = sum(file.size for file in listing)
    return Backup(len(listing), total, ledger_size, keys_encrypted(layout), _elsewhere(layout))


def _elsewhere(layout: Layout) -> str | None:
    address = read_store_address(layout)
    return None if address is None else str(address)


def _settled_kek(layout: Layout) -> bytes:
    """The key-encryption key's file, outside any rotation: during one, blobs do change."""
    if layout.next_kek.exists():
        raise _rotating()
    return layout.kek.read_bytes()


def _rotating() -> OperationalError:
    return OperationalError(
        "backup.rotating",
        "The key-encryption key is being replaced, so the vault is between two keys.",
        "Back up when `keepstone vault rotate` has ended.",
    )


def _pack(packed: Path, listing: list[FileDigest], sources: dict[str, Path]) -> None:
    manifest = canonical(
        {
            "schema": SCHEMA,
            "files": [{"path": f.path, "size": f.size, "sha256": f.sha256.hex} for f in listing],
        }
    )
    descriptor = os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, _MANIFEST, io.BytesIO(manifest), len(manifest))
            for file in listing:
                with sources[file.path].open("rb") as content:
                    _add(archive, file.path, content, file.size)
        raw.flush()
        os.fsync(raw.fileno())


def _add(archive: tarfile.TarFile, name: str, content: io.BufferedIOBase, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    archive.addfile(member, content)


def restore(site: Site, source: Path, *, unsafe_rollback: str | None = None) -> Backup:
    """Unpack `source` where no workspace is yet, check all of it, and only then put it in place.

    (1) The archive holds exactly what its manifest lists, digest by digest.
    (2) The ledger verifies: bodies, tree, stored checkpoints.
    (3) The ledger extends the newest checkpoint kept outside. An older backup does not:
        `unsafe_rollback` accepts it with a reason, which is recorded at the next start.

    Raises InputError `workspace.exists`, `backup.malformed`, `backup.no_reason`;
    VerificationError `backup.corrupt`, `backup.outdated`.
    """
    layout = site.layout
    if unsafe_rollback is not None and not unsafe_rollback.strip():
        raise InputError("backup.no_reason", "Accepting an older backup needs a reason.")
    if layout.root.exists() and any(layout.root.iterdir()):
        raise InputError(
            "workspace.exists", f"{layout.root} is not empty.", "Restore into a new folder."
        )
    make_private_directory(layout.root.parent)
    with tempfile.TemporaryDirectory(
        prefix=f".{layout.root.name}.restoring-", dir=layout.root.parent
    ) as folder:
        unpacked = Layout(Path(folder) / "workspace")
        listing = _unpack(source, unpacked.root)
        identity = read_identity(unpacked)
        inner = replace(site, layout=unpacked)
        report = verify_ledger_of(inner)
        behind = _is_behind(report, unsafe_rollback is not None)
        if behind and unsafe_rollback is not None:
            write_atomic(unpacked.rollback_note, unsafe_rollback.encode())
        with storage_errors(layout.root):
            unpacked.root.rename(layout.root)
            sync_directory(layout.root.parent)
            if behind:
                # Last: while anything can still fail, the evidence of what was lost stays.
                OutsideCheckpoints(site.outside).forget(identity.origin)
    total = sum(file.size for file in listing)
    return Backup(len(listing), total, report.size, keys_encrypted(layout), _elsewhere(layout))


def _is_behind(report: LedgerReport, accepts_rollback: bool) -> bool:
    """Whether the ledger is behind what was kept outside, where that is accepted.

    Raises `backup.outdated` where it is not, `backup.corrupt` for one that does not verify.
    """
    behind = report.status in (Status.ROLLED_BACK, Status.FORKED)
    if behind and not accepts_rollback:
        raise VerificationError(
            "backup.outdated",
            "The backup is older than the newest checkpoint kept outside, or contradicts it.",
            "Use a newer backup, or accept the loss with --unsafe-rollback and a reason.",
        )
    if not behind and report.status not in (Status.VERIFIED, Status.VERIFIED_NO_OUTSIDE):
        raise VerificationError("backup.corrupt", "The ledger in the backup does not verify.")
    return behind


def _malformed(cause: str) -> InputError:
    return InputError("backup.malformed", cause, "Use a file that `keepstone backup` wrote.")


def _unpack(source: Path, root: Path) -> list[FileDigest]:
    # (1) The manifest comes first and names everything that may follow.
    try:
        with tarfile.open(source, mode="r:") as archive:
            members = iter(archive)
            first = next(members, None)
            if first is None or first.name != _MANIFEST or first.size > _MANIFEST_LIMIT:
                raise _malformed("The file does not begin with a manifest.")
            listing = _read_manifest(_content(archive, first).read())
            expected = {file.path: file for file in listing}
            for member in members:
                file = expected.pop(member.name, None)
                if file is None or not member.isreg() or member.size != file.size:
                    raise _corrupt(member.name)
                _unpack_file(_content(archive, member), root / file.path, file)
    except FileNotFoundError as error:
        raise InputError("backup.missing", f"{source} does not exist.") from error
    except (tarfile.TarError, EOFError) as error:
        raise _malformed(f"The file is not a whole backup: {error}.") from error
    except OSError as error:
        raise OperationalError("backup.unreadable", f"Cannot restore: {error}.") from error
    if expected:
        raise _corrupt(next(iter(expected)))
    return listing


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedIOBase:
    content = archive.extractfile(member)
    if content is None:
        raise _malformed(f"{member.name!r} is not a file.")
    return content  # type: ignore[return-value]  # typeshed says IO[bytes]


def _corrupt(name: str) -> VerificationError:
    return VerificationError(
        "backup.corrupt", f"{name!r} in the backup is not what its manifest says."
    )


def _unpack_file(content: io.BufferedIOBase, target: Path, file: FileDigest) -> None:
    make_private_directory(target.parent)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "wb") as output:
        while block := content.read(1 << 20):
            digest.update(block)
            output.write(block)
        output.flush()
        os.fsync(output.fileno())
    if digest.hexdigest() != file.sha256.hex:
        raise _corrupt(file.path)


def _read_manifest(data: bytes) -> list[FileDigest]:
    value = parse_json(data, limit=_MANIFEST_LIMIT)
    try:
        if value["schema"] != SCHEMA:
            raise InputError(
                "backup.newer_version",
                f"The backup follows {value['schema']!r}, not {SCHEMA}.",
                "Restore it with the Keepstone that wrote it.",
            )
        listing = [
            FileDigest(check_relative_path(f["path"]), int(f["size"]), Digest(f["sha256"]))
            for f in value["files"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _malformed("The manifest cannot be read.") from error
    paths = {file.path for file in listing}
    if len(paths) != len(listing) or SINGLE_FILE in paths:
        raise _malformed("The manifest names one path twice, or none.")
    return listing
