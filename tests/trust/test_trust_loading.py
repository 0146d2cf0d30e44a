"""Loads from plain files: the bytes that were hashed and permitted, or no model."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keepstone.core.digest import Digest, artifact_digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError
from keepstone.evidence.modelfiles import hash_model
from keepstone.vault.load import load_verified
from keepstone.vault.staging import StagingLimits, stage
from keepstone.vault.verified import VerifiedFiles, read_files

Code = Callable[..., str]


def predict(loaded: Any) -> list[float]:
    found = loaded.runtime.predict({"x": np.ones((1, 3), np.float32)})
    return [float(value) for value in found["y"][0]]


def test_a_permitted_model_is_loaded_and_predicts(
    machine: Any, sender: Any, model: Path, digest_of: Callable[[Path], Digest]
) -> None:
    sender.scan(digest_of(model))
    trusted = machine.open(sender.bundle())
    assert predict(trusted.load(model)) == [2.0, 2.0, 2.0]
    assert predict(trusted.load(model, "scale")) == [2.0, 2.0, 2.0]


def test_another_model_a_revoked_one_and_another_name_are_not_loaded(
    machine: Any,
    sender: Any,
    model: Path,
    digest_of: Callable[[Path], Digest],
    onnx_file: Callable[..., Path],
    code: Code,
) -> None:
    digest = digest_of(model)
    sender.scan(digest)
    trusted = machine.open(sender.bundle())
    other = onnx_file(machine.root / "other.onnx", 3.0)
    assert code(trusted.load, other) == "trust.no_name/2"
    assert code(trusted.load, other, "scale") == "gate.denied/1"
    assert code(trusted.load, model, "another") == "gate.denied/1"
    sender.revoke(digest)
    assert code(machine.open(sender.bundle()).load, model) == "gate.revoked/1"


def test_after_the_bundle_expired_nothing_is_loaded(
    machine: Any, sender: Any, model: Path, digest_of: Callable[[Path], Digest], code: Code
) -> None:
    sender.scan(digest_of(model))
    trusted = machine.open(sender.bundle())
    held = read_files(model)
    permission = trusted.permit(Subject("scale", held.digest))
    assert predict(load_verified(held, permission, now=machine.clock.now))
    expired = permission.expires
    assert code(load_verified, held, permission, now=expired) == "permission.expired/1"
    machine.clock.now = expired
    assert code(trusted.load, model) == "trust.expired/1"


def test_a_file_swapped_while_it_is_loaded_never_wins(
    machine: Any,
    sender: Any,
    model: Path,
    digest_of: Callable[[Path], Digest],
    onnx_file: Callable[..., Path],
) -> None:
    sender.scan(digest_of(model))
    trusted = machine.open(sender.bundle())
    good, evil = machine.root / "good", onnx_file(machine.root / "evil.onnx", 666.0)
    shutil.copy(model, good)
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for source in (evil, good):
                shutil.copy(source, machine.root / "next")
                os.replace(machine.root / "next", model)

    thread = threading.Thread(target=swap)
    thread.start()
    wins = loads = 0
    try:
        for _ in range(300):
            try:
                found = predict(trusted.load(model, "scale"))
            except DeniedError:
                continue
            loads += 1
            wins += found != [2.0, 2.0, 2.0]
    finally:
        ended.set()
        thread.join()
    assert wins == 0
    assert loads


def test_the_bytes_that_were_hashed_are_the_bytes_that_run(
    machine: Any,
    sender: Any,
    model: Path,
    digest_of: Callable[[Path], Digest],
    onnx_file: Callable[..., Path],
) -> None:
    sender.scan(digest_of(model))
    trusted = machine.open(sender.bundle())
    held = read_files(model)
    onnx_file(model, 666.0)
    permission = trusted.permit(Subject("scale", held.digest))
    assert predict(load_verified(held, permission, now=machine.clock.now)) == [2.0, 2.0, 2.0]


def test_no_lookalike_of_a_permission_or_of_read_bytes_loads(
    machine: Any, sender: Any, model: Path, digest_of: Callable[[Path], Digest], code: Code
) -> None:
    digest = digest_of(model)
    sender.scan(digest)
    held = read_files(model)
    now = machine.clock.now
    permission = machine.open(sender.bundle()).permit(Subject("scale", digest))

    class Lookalike:
        artifact, name, format, contract = digest, "scale", "onnx", None
        paths = held.paths

        def holds(self, now: int) -> bool:
            return True

    evil = Lookalike()
    assert code(load_verified, held, evil, now=now) == "permission.unverified/1"
    assert code(load_verified, evil, permission, now=now) == "model.unverified/1"
    assert code(dataclasses.replace, held, _seal=None) == "model.unverified/1"
    assert code(VerifiedFiles, digest, {}, None) == "model.unverified/1"
    other = machine.root / "other"
    other.write_bytes(b"other")
    swapped = read_files(other)
    assert code(load_verified, swapped, permission, now=now) == "model.wrong_digest/1"


def test_data_outside_of_the_file_and_formats_without_a_runtime_are_refused(
    machine: Any,
    sender: Any,
    digest_of: Callable[[Path], Digest],
    onnx_file: Callable[..., Path],
    code: Code,
) -> None:
    folder = machine.root / "outside"
    folder.mkdir()
    pointing = onnx_file(folder / "m.onnx", 2.0, external=True)
    sender.scan(digest_of(pointing))
    whole = artifact_digest(hash_model(folder, lambda _: False))
    sender.scan(whole, name="folder")
    for name in ("pickle", "unknown", "torch"):
        path = machine.root / name
        path.write_bytes(name.encode())
        sender.scan(digest_of(path), format=name, name=name)
    trusted = machine.open(sender.bundle())
    assert code(trusted.load, pointing) == "model.external_data/1"
    # In a folder the weights are of the artifact, and come out of what was hashed.
    assert predict(trusted.load(folder)) == [2.0, 2.0, 2.0]
    for name in ("pickle", "unknown", "torch"):
        assert code(trusted.load, machine.root / name) == "runtime.missing/3"


def test_a_model_of_another_format_than_the_scanned_one_is_not_loaded(
    machine: Any, sender: Any, model: Path, digest_of: Callable[[Path], Digest], code: Code
) -> None:
    sender.scan(digest_of(model), format="safetensors")
    assert code(machine.open(sender.bundle()).load, model) == "model.ambiguous/2"


def test_what_is_read_has_the_digest_that_staging_gives(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"1")
    (folder / "b").touch()
    for path in (folder, folder / "a" / "x"):
        assert read_files(path).digest == stage(path, tmp_path / "staging").digest
    held = read_files(folder)
    assert {path: bytes(held.view(path)) for path in held.paths} == {"a/x": b"1", "b": b""}


def test_links_limits_and_files_that_grow(tmp_path: Path, code: Code) -> None:
    (tmp_path / "m").mkdir()
    assert code(read_files, tmp_path / "m") == "model.empty/2"
    (tmp_path / "m" / "x").write_bytes(b"12345")
    assert code(read_files, tmp_path / "m", StagingLimits(max_bytes=4)) == "model.too_large/2"
    (tmp_path / "m" / "y").symlink_to(tmp_path / "m" / "x")
    assert code(read_files, tmp_path / "m") == "model.symlink/2"
    # The kernel promises nothing of this file, and it holds something.
    assert code(read_files, Path("/proc/self/status")).startswith("model.")
