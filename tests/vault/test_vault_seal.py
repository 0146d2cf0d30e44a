"""Sealing: what comes out of the vault is what was asked for, or nothing comes out."""

from __future__ import annotations

import os
import random
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.vault import chunked
from keepstone.vault import seal as seal_module
from keepstone.vault.keks.file import FileKek
from keepstone.vault.permission import require_permission
from keepstone.vault.seal import Sealed, check_sealed, look_into, seal, seal_context
from keepstone.vault.seal import unseal as unseal_for
from keepstone.vault.staging import Staged, stage
from keepstone.vault.stores.files import FileStore
from keepstone.vault.stores.port import Held
from keepstone.vault.verified import Files
from tests.vault.permits import NOW, permit

NAME = "digits"


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    (tmp_path / "model").write_bytes(b"weights of the model")
    return stage(tmp_path / "model", tmp_path / "staging")


def unseal(
    store: FileStore, kek: FileKek, digest: Digest, name: str, version: int = 1
) -> dict[str, bytes]:
    permission = permit(digest, name=name)
    with unseal_for(store, kek, permission, now=NOW, version=version) as files:
        return {path: bytes(files.view(path)) for path in files.paths}


def refusal(
    store: FileStore, kek: FileKek, digest: Digest, name: str = NAME, version: int = 1
) -> str:
    with pytest.raises(KeepstoneError) as caught:
        unseal(store, kek, digest, name, version)
    with pytest.raises(KeepstoneError) as checked:
        check_sealed(store, kek, digest, name, version)
    assert checked.value.code == caught.value.code
    if version == 1:
        with pytest.raises(KeepstoneError):
            look_into(store, kek, digest, name, lambda files: files.paths)
    return caught.value.code


def test_a_file_comes_back(store: FileStore, kek: FileKek, staged: Staged) -> None:
    sealed = seal(staged, store, kek, NAME)
    path = store.path(staged.digest, NAME)
    assert sealed == Sealed(staged.digest, NAME, 1, path.stat().st_size)
    assert unseal(store, kek, staged.digest, NAME) == {".": b"weights of the model"}
    check_sealed(store, kek, staged.digest, NAME)
    assert b"weights" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(store.addresses()) == [Held(staged.digest, NAME, sealed.size)]


def test_a_folder_comes_back(tmp_path: Path, store: FileStore, kek: FileKek) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    content = {"a": b"", "b": os.urandom(3 << 20), "sub/c": b"", "sub/d": b"d", "z": b""}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    staged = stage(folder, tmp_path / "staging")
    seal(staged, store, kek, NAME)
    assert unseal(store, kek, staged.digest, NAME) == content


def test_every_truncation_and_every_bit_flip_is_refused(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    seal(staged, store, kek, NAME)
    path = store.path(staged.digest, NAME)
    blob = path.read_bytes()
    allowed = {
        *("seal.truncated", "seal.corrupt", "seal.wrong_key", "seal.newer_version"),
        "seal.rolled_back",
    }
    for length in range(len(blob)):
        path.write_bytes(blob[:length])
        assert refusal(store, kek, staged.digest) in allowed
    for position in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        assert refusal(store, kek, staged.digest) in allowed
    path.write_bytes(blob + b"\x00")
    assert refusal(store, kek, staged.digest) in allowed
    path.write_bytes(blob)
    check_sealed(store, kek, staged.digest, NAME)


def test_flips_in_a_blob_of_many_chunks_are_refused(
    tmp_path: Path, store: FileStore, kek: FileKek
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(5 << 14))
    staged = stage(tmp_path / "large", tmp_path / "staging")
    seal(staged, store, kek, NAME)
    path = store.path(staged.digest, NAME)
    blob = path.read_bytes()
    chosen = random.Random(7)
    for _ in range(300):
        changed = bytearray(blob)
        changed[chosen.randrange(len(blob))] ^= 1 << chosen.randrange(8)
        path.write_bytes(changed)
        refusal(store, kek, staged.digest)


def test_ten_thousand_flips_at_random_are_refused(
    tmp_path: Path, store: FileStore, kek: FileKek
) -> None:
    """Over header, key, listing, chunks and tags of a blob of several files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(os.urandom(300))
    staged = stage(folder, tmp_path / "staging")
    seal(staged, store, kek, NAME)
    path = store.path(staged.digest, NAME)
    blob = path.read_bytes()
    chosen = random.Random(3)
    for _ in range(10_000):
        at, bit = chosen.randrange(len(blob)), chosen.randrange(8)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([blob[at] ^ 1 << bit]))
        with pytest.raises(KeepstoneError) as caught:
            check_sealed(store, kek, staged.digest, NAME)
        assert caught.value.code.startswith("seal.")
        with path.open("r+b") as file:
            file.seek(at)
            file.write(blob[at : at + 1])
    check_sealed(store, kek, staged.digest, NAME)


def two_versions(tmp_path: Path, store: FileStore, kek: FileKek) -> tuple[Staged, Staged]:
    found = []
    for version in ("old", "new"):
        (tmp_path / version).write_bytes(version.encode())
        staged = stage(tmp_path / version, tmp_path / "staging")
        seal(staged, store, kek, NAME)
        found.append(staged)
    return found[0], found[1]


def test_a_rolled_back_blob_is_refused(tmp_path: Path, store: FileStore, kek: FileKek) -> None:
    old, new = two_versions(tmp_path, store, kek)
    store.path(new.digest, NAME).write_bytes(store.path(old.digest, NAME).read_bytes())
    assert refusal(store, kek, new.digest) == "seal.wrong_key"


def test_an_older_sealing_of_the_same_artifact_is_refused(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    """Same digest, same name, same key: only the number that the ledger knows tells them apart.

    This fails if the version is left out of the context, or only compared in the clear.
    """
    seal(staged, store, kek, NAME, 1)
    path = store.path(staged.digest, NAME)
    old = path.read_bytes()
    seal(staged, store, kek, NAME, 2)
    assert unseal(store, kek, staged.digest, NAME, 2)
    path.write_bytes(old)
    assert refusal(store, kek, staged.digest, version=2) == "seal.rolled_back"
    lying = old.replace(b'"version":1', b'"version":2')
    assert lying != old
    path.write_bytes(lying)
    assert refusal(store, kek, staged.digest, version=2) == "seal.wrong_key"


def test_a_look_sees_the_files_and_keeps_nothing_open(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    seal(staged, store, kek, NAME, 3)
    kept = []

    def look(files: Files) -> bytes:
        kept.append(files)
        return bytes(files.view("."))

    before = len(os.listdir("/proc/self/fd"))
    assert look_into(store, kek, staged.digest, NAME, look) == b"weights of the model"
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(VerificationError):
        require_permission(kept[0], NOW)


def test_only_the_scan_of_the_vault_looks_without_a_permission() -> None:
    source = Path(seal_module.__file__).parents[1]
    users = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "look_into" in path.read_text("utf-8")
    }
    assert users == {"vault/seal.py", "workspace/scanning.py"}


def test_no_permission_releases_a_key(store: FileStore, kek: FileKek, staged: Staged) -> None:
    """Not even the key-encryption key is asked: this fails if the check comes after it."""

    class Watched:
        key_id = kek.key_id

        def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
            raise AssertionError("a key was released")

    class Lookalike:
        artifact, name, contract = staged.digest, NAME, Digest.of(b"")

        def holds(self, now: int) -> bool:
            return True

    seal(staged, store, kek, NAME)
    for permission, now, code in (
        (Lookalike(), NOW, "permission.unverified"),
        (permit(staged.digest, name=NAME), NOW + 1000, "permission.expired"),
        (permit(staged.digest, name=NAME), NOW - 1, "permission.expired"),
    ):
        with pytest.raises(KeepstoneError) as caught:
            unseal_for(store, Watched(), permission, now=now)  # type: ignore[arg-type]
        assert caught.value.code == code


def test_checking_a_blob_hands_out_nothing(store: FileStore, kek: FileKek, staged: Staged) -> None:
    seal(staged, store, kek, NAME)
    assert check_sealed(store, kek, staged.digest, NAME) is None  # type: ignore[func-returns-value]


def test_a_blob_under_another_name_is_refused(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    seal(staged, store, kek, NAME)
    other = store.path(staged.digest, "other")
    other.write_bytes(store.path(staged.digest, NAME).read_bytes())
    assert refusal(store, kek, staged.digest, "other") == "seal.wrong_key"


def test_another_workspace_cannot_open_it(store: FileStore, kek: FileKek, staged: Staged) -> None:
    seal(staged, store, kek, NAME)
    assert refusal(store, FileKek.of(bytes(32)), staged.digest) == "seal.wrong_key"


def test_a_header_grafted_onto_another_body_is_refused(
    tmp_path: Path, store: FileStore, kek: FileKek
) -> None:
    old, new = two_versions(tmp_path, store, kek)
    blobs = [store.path(s.digest, NAME).read_bytes() for s in (old, new)]
    cut = len(seal_module.MAGIC) + 4
    size = int.from_bytes(blobs[0][cut - 4 : cut], "big") + cut
    store.path(new.digest, NAME).write_bytes(blobs[1][:size] + blobs[0][size:])
    assert refusal(store, kek, new.digest) == "seal.wrong_key"


def test_what_the_key_holder_forges_is_still_hashed(
    store: FileStore, kek: FileKek, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line: a blob made with the right key and context, but other contents.

    This fails if unsealing trusts the seal and does not hash what it read.
    """

    class Forged(seal_module.Body):
        def readinto(self, buffer: memoryview, /) -> int:
            count = super().readinto(buffer)
            at = bytes(buffer[:count]).find(b"weights")
            if at >= 0:
                buffer[at : at + 7] = b"WEIGHTS"
            return count

    class Blind(seal_module.Checker):
        def end(self, file: FileDigest) -> None: ...

    with monkeypatch.context() as forging:
        forging.setattr(seal_module, "Body", Forged)
        forging.setattr(seal_module, "Checker", Blind)
        seal(staged, store, kek, NAME)
    assert refusal(store, kek, staged.digest) == "seal.corrupt"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x05[1,2]",
        b"\x00\x00\x00\x03nul",
        b"\xff\xff\xff\xff",
        b"\x00\x00",
    ],
)
def test_authentic_bodies_that_are_not_one_are_refused(
    store: FileStore, kek: FileKek, staged: Staged, body: bytes, monkeypatch: object
) -> None:
    forge(store, kek, staged.digest, body)
    assert refusal(store, kek, staged.digest) == "seal.corrupt"


def forge(store: FileStore, kek: FileKek, digest: Digest, body: bytes) -> None:
    import base64
    import io

    from keepstone.core.canonical import canonical
    from keepstone.core.ports import SystemRandomness

    context = seal_context(digest, NAME, 1)
    wrapped = base64.b64encode(kek.wrap(bytes(32), context)).decode()
    header = canonical({"kek": kek.key_id, "version": 1, "wrapped": wrapped})

    def fill(sink: object) -> None:
        sink(memoryview(seal_module.MAGIC + len(header).to_bytes(4, "big") + header))  # type: ignore[operator]
        chunked.encrypt(bytes(32), context, io.BytesIO(body), sink, SystemRandomness())  # type: ignore[arg-type]

    store.write(digest, NAME, fill)  # type: ignore[arg-type]


def test_a_whole_other_artifact_under_this_digest_is_refused(
    store: FileStore, kek: FileKek
) -> None:
    """A blob that is sound in itself, sealed by a key holder under another artifact's address.

    This fails if the listing is not compared with the digest that was asked for.
    """
    from keepstone.core.canonical import canonical

    listing = canonical([{"path": ".", "sha256": Digest.of(b"evil").hex, "size": 4}])
    asked = artifact_digest([FileDigest(".", 4, Digest.of(b"good"))])
    forge(store, kek, asked, len(listing).to_bytes(4, "big") + listing + b"evil")
    assert refusal(store, kek, asked) == "seal.corrupt"


@pytest.mark.parametrize(
    "header",
    [
        b'{"kek":"id"}',
        b'{"kek":"id","version":1,"wrapped":"%"}',
        b'{"kek":"id","wrapped":""}',
        b'{"kek":"id","version":true,"wrapped":""}',
        b'{"kek":"id","version":0,"wrapped":""}',
        b'{"wrapped":"","kek":"id"}',
        b"[]",
        b"{",
    ],
)
def test_headers_that_are_not_one_are_refused(
    store: FileStore, kek: FileKek, header: bytes
) -> None:
    blob = seal_module.MAGIC + len(header).to_bytes(4, "big") + header
    store.write(Digest.of(b""), NAME, lambda sink: sink(memoryview(blob)))
    assert refusal(store, kek, Digest.of(b"")) == "seal.corrupt"


def test_a_list_of_files_that_is_too_long_is_refused(
    store: FileStore, kek: FileKek, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal_module, "_MAX_LISTING", 10)
    with pytest.raises(InputError) as caught:
        seal(staged, store, kek, NAME)
    assert caught.value.code == "model.too_large"


@pytest.mark.parametrize("extra", [b"more", b""])
def test_more_or_less_than_the_listing_says_is_refused(
    store: FileStore, kek: FileKek, extra: bytes
) -> None:
    from keepstone.core.canonical import canonical

    file = FileDigest(".", 4, Digest.of(b"data"))
    listing = canonical([{"path": ".", "sha256": file.sha256.hex, "size": 4}])
    body = len(listing).to_bytes(4, "big") + listing + (b"data" + extra if extra else b"dat")
    forge(store, kek, artifact_digest([file]), body)
    assert refusal(store, kek, artifact_digest([file])) == "seal.corrupt"


def test_a_copy_that_changed_after_it_was_judged_is_not_sealed(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    staged.path.write_bytes(b"WEIGHTS of the model")
    with pytest.raises(VerificationError) as caught:
        seal(staged, store, kek, NAME)
    assert caught.value.code == "staging.changed"
    assert list(store.addresses()) == []
    assert list(store.path(staged.digest, NAME).parent.iterdir()) == []


def test_a_newer_seal_is_named(store: FileStore, kek: FileKek, staged: Staged) -> None:
    seal(staged, store, kek, NAME)
    path = store.path(staged.digest, NAME)
    path.write_bytes(path.read_bytes().replace(b"seal/v1", b"seal/v2"))
    assert refusal(store, kek, staged.digest) == "seal.newer_version"


@given(st.binary(max_size=300))
def test_any_header_ends_in_a_coded_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    store = FileStore(tmp_path_factory.getbasetemp() / "any")
    kek, digest = FileKek.of(bytes(32)), Digest.of(b"")
    size = len(data).to_bytes(4, "big")
    store.write(digest, NAME, lambda sink: sink(memoryview(seal_module.MAGIC + size + data)))
    assert refusal(store, kek, digest).startswith("seal.")


# The store ----------------------------------------------------------------------------------


def test_what_is_not_there_is_said(store: FileStore, kek: FileKek) -> None:
    digest = Digest.of(b"nothing")
    assert refusal(store, kek, digest) == "blob.missing"
    assert not store.has(digest, NAME)
    store.delete(digest, NAME)
    with pytest.raises(InputError):
        store.path(digest, "../escape")


def test_deleting_removes_the_blob(store: FileStore, kek: FileKek, staged: Staged) -> None:
    seal(staged, store, kek, NAME)
    store.delete(staged.digest, NAME)
    assert refusal(store, kek, staged.digest) == "blob.missing"


@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder"])
def test_only_regular_files_are_blobs(
    tmp_path: Path, store: FileStore, kek: FileKek, staged: Staged, kind: str
) -> None:
    seal(staged, store, kek, NAME)
    path = store.path(staged.digest, NAME)
    path.rename(tmp_path / "moved")
    if kind == "symlink":
        path.symlink_to(tmp_path / "moved")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert refusal(store, kek, staged.digest) == "blob.unreadable"


@pytest.fixture
def small_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_old_blob_and_leaves_no_half(
    tmp_path: Path, store: FileStore, kek: FileKek, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    staged = stage(tmp_path / "large", tmp_path / "staging")
    path = store.path(staged.digest, NAME)
    store.write(staged.digest, NAME, lambda sink: sink(memoryview(b"older")))
    request.getfixturevalue("small_files")
    with pytest.raises(OperationalError) as caught:
        seal(staged, store, kek, NAME)
    assert caught.value.code == "disk.full"
    assert path.read_bytes() == b"older"
    assert list(path.parent.iterdir()) == [path]
