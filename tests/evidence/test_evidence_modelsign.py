"""Model signatures: what is signed is what is there, and the public package agrees both ways."""

from __future__ import annotations

import base64
import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_signing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.evidence import modelfiles
from keepstone.evidence.bundle import MEDIA_TYPE
from keepstone.evidence.dsse import Envelope, Signed, pae
from keepstone.evidence.modelsign import (
    GIT_PATHS,
    PREDICATE_TYPE,
    sign_files,
    sign_model,
    verify_model,
    verify_model_files,
)
from keepstone.evidence.statement import PAYLOAD_TYPE
from keepstone.identity.signing import Algorithm, SigningKey, VerifyingKey, parse_public_pem

CURVES = [Algorithm.P256, Algorithm.P384, Algorithm.P521]
KEY = SigningKey.generate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "digits"
    (model / "weights").mkdir(parents=True)
    (model / "a.bin").write_bytes(b"first")
    (model / "a-b.bin").write_bytes(b"second")
    (model / "weights" / "w.bin").write_bytes(os.urandom(3_000_000))
    (model / "empty").touch()
    (model / "hollow").mkdir()
    return model


def pem_files(tmp_path: Path, key: SigningKey) -> tuple[Path, Path]:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(key.to_pem())
    public.write_bytes(key.verifying.pem)
    return private, public


def theirs_signs(tmp_path: Path, model: Path, key: SigningKey, **hashing: Any) -> bytes:
    private, _ = pem_files(tmp_path, key)
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
    if hashing:
        config.set_hashing_config(model_signing.hashing.Config().use_file_serialization(**hashing))
    config.sign(model, tmp_path / "theirs.sig")
    return (tmp_path / "theirs.sig").read_bytes()


def theirs_verifies(tmp_path: Path, model: Path, bundle: bytes, key: SigningKey) -> None:
    _, public = pem_files(tmp_path, key)
    (tmp_path / "ours.sig").write_bytes(bundle)
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(
        model, tmp_path / "ours.sig"
    )


# --- the public package, both ways ------------------------------------------------------------


@pytest.mark.parametrize("algorithm", CURVES)
@pytest.mark.parametrize("inside", ["", "a.bin", "empty"])
def test_the_public_package_verifies_ours(
    tmp_path: Path, folder: Path, algorithm: Algorithm, inside: str
) -> None:
    key = SigningKey.generate(algorithm)
    model = folder / inside
    bundle = sign_model(model, key)
    theirs_verifies(tmp_path, model, bundle, key)
    (model if inside else model / "a.bin").write_bytes(b"changed")
    with pytest.raises(ValueError, match="mismatch"):
        theirs_verifies(tmp_path, model, bundle, key)


@pytest.mark.parametrize("algorithm", CURVES)
@pytest.mark.parametrize("inside", ["", "a.bin", "empty"])
def test_we_verify_theirs(tmp_path: Path, folder: Path, algorithm: Algorithm, inside: str) -> None:
    key = SigningKey.generate(algorithm)
    model = folder / inside
    bundle = theirs_signs(tmp_path, model, key)
    verified = verify_model(model, bundle, key.verifying)
    assert verified.key_id == key.key_id
    assert verified.name == model.name
    assert verified.bundle == Digest.of(bundle)
    assert [file.path for file in verified.files] == (
        ["."] if inside else ["a-b.bin", "a.bin", "empty", "weights/w.bin"]
    )
    (model if inside else model / "a.bin").write_bytes(b"changed")
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_model(model, bundle, key.verifying)


def test_git_files_stay_unsigned_both_ways(tmp_path: Path, folder: Path) -> None:
    for name in (".git", ".github"):
        (folder / name).mkdir()
        (folder / name / "config").write_text("x")
    (folder / ".gitignore").write_text("x")
    # Only git's own files at the top are left out: another one further down is the model's.
    (folder / "weights" / ".gitignore").write_text("x")
    ours = sign_model(folder, KEY)
    theirs_verifies(tmp_path, folder, ours, KEY)
    theirs = theirs_signs(tmp_path, folder, KEY)
    for bundle in (ours, theirs):
        verified = verify_model(folder, bundle, KEY.verifying)
        assert verified.unsigned == (".git", ".github", ".gitignore")
        assert "weights/.gitignore" in [file.path for file in verified.files]
    (folder / "weights" / ".gitignore").write_text("y")
    with pytest.raises(VerificationError):
        verify_model(folder, ours, KEY.verifying)


def test_a_bundle_of_theirs_that_signs_git_files_is_held_to_them(
    tmp_path: Path, folder: Path
) -> None:
    (folder / ".gitignore").write_text("x")
    private, _ = pem_files(tmp_path, KEY)
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(
        hashing
    ).sign(folder, tmp_path / "sig")
    bundle = (tmp_path / "sig").read_bytes()
    assert verify_model(folder, bundle, KEY.verifying).unsigned == ()
    (folder / ".gitignore").write_text("y")
    with pytest.raises(VerificationError, match=r"'\.gitignore' was changed"):
        verify_model(folder, bundle, KEY.verifying)


def test_a_signature_kept_inside_the_folder(tmp_path: Path, folder: Path) -> None:
    bundle = sign_model(folder, KEY, leave_out=["model.sig"])
    (folder / "model.sig").write_bytes(bundle)
    theirs_verifies(tmp_path, folder, bundle, KEY)
    assert verify_model(folder, bundle, KEY.verifying).unsigned == ("model.sig",)
    # Signed elsewhere and put inside afterwards: the caller says where it lies.
    plain = theirs_signs(tmp_path, folder / "weights", KEY)
    (folder / "weights" / "m.sig").write_bytes(plain)
    with pytest.raises(VerificationError, match=r"'m\.sig' is not signed"):
        verify_model(folder / "weights", plain, KEY.verifying)
    verified = verify_model(folder / "weights", plain, KEY.verifying, leave_out=["m.sig"])
    assert verified.unsigned == ("m.sig",)


_PART = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None)
@given(
    names=st.sets(
        _PART.filter(lambda part: part not in (".", "..") and not part.startswith(".git")),
        min_size=1,
        max_size=6,
    ),
    content=st.binary(max_size=64),
)
def test_both_agree_on_any_folder(names: set[str], content: bytes) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        model = base / "model"
        model.mkdir()
        for name in names:
            (model / name).write_bytes(content + name.encode())
        theirs_verifies(base, model, sign_model(model, KEY), KEY)
        verify_model(model, theirs_signs(base, model, KEY), KEY.verifying)


# --- files ------------------------------------------------------------------------------------


def add(folder: Path) -> None:
    (folder / "extra").write_text("x")


def remove(folder: Path) -> None:
    (folder / "empty").unlink()


def rename(folder: Path) -> None:
    # Renaming keeps every digest in its place, so the subject's own digest does not notice.
    (folder / "a.bin").rename(folder / "a.bin2")


def change(folder: Path) -> None:
    (folder / "weights" / "w.bin").write_bytes(b"other")


def swap(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"second")
    (folder / "a-b.bin").write_bytes(b"first")


@pytest.mark.parametrize("attack", [add, remove, rename, change, swap])
def test_every_change_of_the_files_is_refused(folder: Path, attack: Callable[[Path], None]) -> None:
    bundle = sign_model(folder, KEY)
    files = verify_model(folder, bundle, KEY.verifying).files
    attack(folder)
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_model(folder, bundle, KEY.verifying)
    now = modelfiles.hash_model(folder, lambda _: False)
    with pytest.raises(VerificationError, match=r"model\.mismatch"):
        verify_model_files(now, bundle, KEY.verifying)
    assert verify_model_files(files, bundle, KEY.verifying).files == files


def test_a_long_list_of_differences_is_cut(tmp_path: Path) -> None:
    files = [FileDigest(f"f{i}", 1, Digest.of(b"x")) for i in range(9)]
    bundle = sign_files(files, "m", KEY)
    with pytest.raises(VerificationError, match="and 3 more") as caught:
        verify_model_files(files[:1], bundle, KEY.verifying)
    assert caught.value.exit_code == 1


def test_hashed_files_may_hold_nothing_unsigned(folder: Path) -> None:
    (folder / ".gitignore").write_text("x")
    bundle = sign_model(folder, KEY)
    everything = modelfiles.hash_model(folder, lambda _: False)
    with pytest.raises(VerificationError, match=r"'\.gitignore' is not signed"):
        verify_model_files(everything, bundle, KEY.verifying)


def test_a_file_digest_names_path_size_and_content(folder: Path) -> None:
    files = modelfiles.hash_model(folder, lambda _: False)
    assert files == tuple(sorted(files))
    sizes = {file.path: file.size for file in files}
    assert sizes == {"a-b.bin": 6, "a.bin": 5, "empty": 0, "weights/w.bin": 3_000_000}
    assert files[1].sha256 == Digest.of(b"first")
    assert artifact_digest(files)


@pytest.mark.parametrize("place", ["a.link", "weights/a.link"])
@pytest.mark.parametrize("target", ["a.bin", "weights", "nowhere"])
def test_links_are_refused(folder: Path, place: str, target: str) -> None:
    bundle = sign_model(folder, KEY)
    (folder / place).symlink_to(folder / target)
    for attempt in (
        lambda: sign_model(folder, KEY),
        lambda: verify_model(folder, bundle, KEY.verifying),
    ):
        with pytest.raises(InputError, match=r"model\.symlink"):
            attempt()


def test_a_link_to_the_model_is_refused(tmp_path: Path, folder: Path) -> None:
    for name in ("", "a.bin"):
        link = tmp_path / "link"
        link.symlink_to(folder / name)
        with pytest.raises(InputError, match=r"model\.symlink"):
            sign_model(link, KEY)
        link.unlink()


def test_a_folder_swapped_for_a_link_while_we_walk_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "w.bin").write_text("swapped")
    real = os.stat

    def swap_after_stat(name: Any, *args: Any, **options: Any) -> os.stat_result:
        result = real(name, *args, **options)
        if name == "weights":
            (folder / "weights").rename(folder.parent / "away")
            (folder / "weights").symlink_to(elsewhere)
        return result

    monkeypatch.setattr(modelfiles.os, "stat", swap_after_stat)
    with pytest.raises(InputError, match=r"model\.symlink"):
        sign_model(folder, KEY)


def test_special_files_are_refused_without_blocking(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match=r"model\.special_file"):
        sign_model(folder, KEY)
    with pytest.raises(InputError, match=r"model\.special_file"):
        sign_model(folder / "pipe", KEY)


def test_a_socket_is_refused(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    with pytest.raises(InputError, match=r"model\.special_file"):
        sign_model(tmp_path, KEY)


def test_missing_empty_deep_and_oddly_named_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.missing"):
        sign_model(tmp_path / "none", KEY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"model\.empty"):
        sign_model(tmp_path / "empty", KEY)
    deep = tmp_path / "deep"
    (deep / "/".join(["d"] * 66)).mkdir(parents=True)
    with pytest.raises(InputError, match=r"model\.too_deep"):
        sign_model(deep, KEY)
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "a\\b").touch()
    with pytest.raises(InputError, match=r"path\.unsafe"):
        sign_model(odd, KEY)
    os.rename(odd / "a\\b", os.fsencode(odd) + b"/\xff")
    with pytest.raises(InputError, match=r"path\.unsafe"):
        sign_model(odd, KEY)


def test_a_read_error_is_no_decision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(modelfiles.os, "listdir", fail)
        with pytest.raises(OperationalError, match=r"model\.unreadable"):
            sign_model(folder, KEY)
    with monkeypatch.context() as patched:
        patched.setattr(modelfiles.os, "open", fail)
        with pytest.raises(OperationalError, match=r"model\.unreadable"):
            sign_model(folder / "a.bin", KEY)
    # A folder put in a file's place after the check.
    with monkeypatch.context() as patched:
        patched.setattr(modelfiles.stat, "S_ISDIR", lambda _: False)
        with pytest.raises(InputError, match=r"model\.special_file"):
            sign_model(folder, KEY)
    # The kernel answers a read of the first page of a process's memory with EIO.
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    with pytest.raises(OperationalError, match=r"model\.unreadable"):
        modelfiles.hash_open(("a.bin", descriptor))


def test_memory_stays_flat_and_descriptors_are_closed(tmp_path: Path) -> None:
    import tracemalloc

    model = tmp_path / "many"
    model.mkdir()
    for number in range(300):
        (model / f"{number}").write_bytes(b"x" * 100)
    (model / "big").write_bytes(b"\0" * 32_000_000)
    before = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    sign_model(model, KEY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24_000_000
    (model / "link").symlink_to(model)
    with pytest.raises(InputError):
        sign_model(model, KEY)
    assert len(os.listdir("/proc/self/fd")) == before


# --- bundles ----------------------------------------------------------------------------------

FILES = [FileDigest("a", 1, Digest.of(b"a")), FileDigest("b", 1, Digest.of(b"b"))]


def bundle_of(
    edit_payload: Callable[[dict[str, Any]], None] = lambda _: None,
    edit_bundle: Callable[[dict[str, Any]], None] = lambda _: None,
    *,
    key: SigningKey = KEY,
    payload_type: str = PAYLOAD_TYPE,
) -> bytes:
    """A bundle signed anew after `edit_payload`, then edited without a new signature."""
    bundle = json.loads(sign_files(FILES, "m", key))
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    edit_payload(payload)
    data = json.dumps(payload).encode()
    signed = Signed("", key.sign(pae(payload_type, data)))
    bundle["dsseEnvelope"] = Envelope(payload_type, data, (signed,)).to_dict()
    edit_bundle(bundle)
    return json.dumps(bundle).encode()


def check(bundle: bytes, key: VerifyingKey = KEY.verifying) -> None:
    verify_model_files(FILES, bundle, key)


def test_the_unedited_bundle_holds() -> None:
    check(bundle_of())
    check(bundle_of(lambda payload: payload["predicate"].update(model_card="later")))


def _resource(payload: dict[str, Any]) -> dict[str, Any]:
    resource: dict[str, Any] = payload["predicate"]["resources"][0]
    return resource


def _serialization(payload: dict[str, Any]) -> dict[str, Any]:
    serialization: dict[str, Any] = payload["predicate"]["serialization"]
    return serialization


BAD_PAYLOADS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda p: p.update(_type="https://in-toto.io/Statement/v0.1"), "bundle.malformed"),
    (lambda p: p.update(predicateType="https://model_signing/Digests/v0.1"), "bundle.malformed"),
    (lambda p: p.update(predicateType="https://slsa.dev/provenance/v1"), "bundle.malformed"),
    (lambda p: p.update(subject=[]), "bundle.malformed"),
    (lambda p: p["subject"].append(p["subject"][0]), "bundle.malformed"),
    (lambda p: p["subject"][0]["digest"].update(sha256="0" * 64), "signature.inconsistent"),
    (lambda p: p.pop("predicate"), "bundle.malformed"),
    (lambda p: p["predicate"].update(resources=[]), "bundle.malformed"),
    (lambda p: _resource(p).update(name="../a"), "path.unsafe"),
    (lambda p: _resource(p).update(name="/a"), "path.unsafe"),
    (lambda p: _resource(p).update(name="b"), "bundle.malformed"),
    (lambda p: _resource(p).update(algorithm="sha1"), "bundle.unsupported"),
    (lambda p: _resource(p).update(digest="00"), "digest.malformed"),
    (lambda p: _resource(p).update(digest="0" * 64), "signature.inconsistent"),
    (lambda p: p["predicate"]["resources"].reverse(), "signature.inconsistent"),
    (lambda p: _serialization(p).update(method="shards"), "bundle.malformed"),
    (lambda p: _serialization(p).update(hash_type="blake3"), "bundle.unsupported"),
    (lambda p: _serialization(p).update(hash_type="sha1"), "bundle.unsupported"),
    (lambda p: _serialization(p).update(method="tensors"), "bundle.unsupported"),
    (lambda p: _serialization(p).update(ignore_paths="."), "bundle.malformed"),
    (lambda p: _serialization(p).update(ignore_paths=["."]), "bundle.malformed"),
    (lambda p: _serialization(p).update(ignore_paths=[""]), "bundle.malformed"),
    (lambda p: _serialization(p).update(ignore_paths=[1]), "bundle.malformed"),
]


@pytest.mark.parametrize(("edit", "code"), BAD_PAYLOADS)
def test_payloads_that_say_something_else_are_refused(
    edit: Callable[[dict[str, Any]], Any], code: str
) -> None:
    with pytest.raises(KeepstoneError) as caught:
        check(bundle_of(edit))
    assert caught.value.code == code


def _flip(bundle: dict[str, Any]) -> None:
    payload = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload[-2] ^= 1
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()


BAD_BUNDLES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (_flip, "signature.invalid"),
    (
        lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle.v0.1+json"),
        "bundle.malformed",
    ),
    (lambda b: b.pop("verificationMaterial"), "bundle.malformed"),
    (lambda b: b.update(messageSignature={}), "bundle.malformed"),
    (lambda b: b["dsseEnvelope"].update(signatures=[]), "envelope.malformed"),
    (
        lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AAAA", "keyid": "x"}),
        "bundle.malformed",
    ),
    (lambda b: b["dsseEnvelope"].update(payloadType="text/plain"), "bundle.malformed"),
    (
        lambda b: b["verificationMaterial"].update(certificate={"rawBytes": ""}),
        "bundle.malformed",
    ),
    (
        lambda b: b["verificationMaterial"].update(x509CertificateChain={}),
        "bundle.malformed",
    ),
    (lambda b: b["verificationMaterial"].update(other={}), "bundle.malformed"),
    (lambda b: b["verificationMaterial"]["publicKey"].update(hint=1), "bundle.malformed"),
    (lambda b: b["verificationMaterial"]["publicKey"].update(hint="00"), "signature.key_mismatch"),
    (lambda b: b["verificationMaterial"]["publicKey"].update(other=1), "bundle.malformed"),
]


@pytest.mark.parametrize(("edit", "code"), BAD_BUNDLES)
def test_edited_bundles_are_refused(edit: Callable[[dict[str, Any]], Any], code: str) -> None:
    with pytest.raises(KeepstoneError) as caught:
        check(bundle_of(edit_bundle=edit))
    assert caught.value.code == code


@pytest.mark.parametrize("hint", ["", None])
def test_a_bundle_without_a_hint_is_judged_by_the_signature_alone(hint: str | None) -> None:
    def drop(bundle: dict[str, Any]) -> None:
        bundle["verificationMaterial"] = {
            "publicKey": {"hint": hint, "rawBytes": "x", "keyDetails": "y"},
            "tlogEntries": [{"logIndex": "1"}],
        }

    check(bundle_of(edit_bundle=drop))
    other = SigningKey.generate()
    with pytest.raises(VerificationError, match=r"signature\.invalid"):
        check(bundle_of(edit_bundle=drop), other.verifying)


def test_a_signature_over_another_payload_type_is_refused() -> None:
    """Signed as something else, presented as a statement: the type is under the signature."""

    def relabel(bundle: dict[str, Any]) -> None:
        bundle["dsseEnvelope"]["payloadType"] = PAYLOAD_TYPE

    with pytest.raises(VerificationError, match=r"signature\.invalid"):
        check(bundle_of(edit_bundle=relabel, payload_type="application/octet-stream"))


def test_doubled_members_are_refused() -> None:
    bundle = bundle_of().decode()
    doubled = bundle.replace('"mediaType"', '"mediaType": "x", "mediaType"', 1)
    with pytest.raises(InputError, match=r"json\.duplicate_key"):
        check(doubled.encode())


def test_another_key_is_refused_by_name() -> None:
    with pytest.raises(VerificationError, match=r"signature\.key_mismatch"):
        check(bundle_of(), SigningKey.generate().verifying)


def test_ed25519_cannot_sign_models() -> None:
    key = SigningKey.generate(Algorithm.ED25519)
    with pytest.raises(InputError, match=r"key\.unsupported"):
        sign_files(FILES, "m", key)
    with pytest.raises(InputError, match=r"key\.unsupported"):
        check(bundle_of(), key.verifying)


def test_the_whole_model_cannot_be_left_out(folder: Path) -> None:
    for path in (".", "../x", ""):
        with pytest.raises(InputError, match=r"path\.unsafe"):
            sign_model(folder, KEY, leave_out=[path])


def test_a_signed_file_under_a_path_left_out_is_still_checked(folder: Path) -> None:
    """`ignore_paths` cannot be used to stop looking at what was signed."""
    (folder / "weights" / "note").write_text("x")

    def leave_out(payload: dict[str, Any]) -> None:
        payload["predicate"]["serialization"]["ignore_paths"] = ["weights", "../..", "/"]

    files = [
        file
        for file in modelfiles.hash_model(folder, lambda _: False)
        if file.path != "weights/note"
    ]
    bundle = json.loads(sign_files(files, "digits", KEY))
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    leave_out(payload)
    data = json.dumps(payload).encode()
    bundle["dsseEnvelope"] = Envelope(
        PAYLOAD_TYPE, data, (Signed("", KEY.sign(pae(PAYLOAD_TYPE, data))),)
    ).to_dict()
    raw = json.dumps(bundle).encode()
    assert verify_model(folder, raw, KEY.verifying).unsigned == ("weights/note",)
    (folder / "weights" / "w.bin").write_bytes(b"changed")
    with pytest.raises(VerificationError, match=r"'weights/w\.bin' was changed"):
        verify_model(folder, raw, KEY.verifying)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.from_regex(r'\{"[a-z]*": ?[\[\]{}0-9"]*\}').map(str.encode))
def test_arbitrary_bytes_end_in_a_coded_error(data: bytes) -> None:
    with pytest.raises(KeepstoneError):
        check(data)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_a_bundle_is_refused(data: st.DataObject) -> None:
    bundle = bytearray(BUNDLE)
    place = data.draw(st.integers(0, len(bundle) - 1))
    bundle[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(KeepstoneError):
        check(bytes(bundle))


BUNDLE = bundle_of()


def test_the_names_of_the_format() -> None:
    bundle = json.loads(BUNDLE)
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert bundle["mediaType"] == MEDIA_TYPE
    assert payload["predicateType"] == PREDICATE_TYPE
    assert set(GIT_PATHS) <= set(payload["predicate"]["serialization"]["ignore_paths"])
    assert parse_public_pem(KEY.verifying.pem) == KEY.verifying
