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
import pytest

from keepstone.core.digest import Digest, artifact_digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, OperationalError
from keepstone.evidence.modelfiles import hash_model
from keepstone.trust import loading
from keepstone.trust.loading import HeldModel, load_permitted, read_model
from keepstone.vault.staging import stage

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
    held = read_model(model)
    permission = trusted.permit(Subject("scale", held.digest))
    assert predict(load_permitted(held, permission, now=machine.clock.now))
    expired = permission.expires
    assert code(load_permitted, held, permission, now=expired) == "permission.expired/1"
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
    held = read_model(model)
    onnx_file(model, 666.0)
    permission = trusted.permit(Subject("scale", held.digest))
    assert predict(load_permitted(held, permission, now=machine.clock.now)) == [2.0, 2.0, 2.0]


def test_no_lookalike_of_a_permission_or_of_read_bytes_loads(
    machine: Any, sender: Any, model: Path, digest_of: Callable[[Path], Digest], code: Code
) -> None:
    digest = digest_of(model)
    sender.scan(digest)
    held = read_model(model)
    now = machine.clock.now
    permission = machine.open(sender.bundle()).permit(Subject("scale", digest))

    class Lookalike:
        artifact, name, format = digest, "scale", "onnx"
        files = held.files

        def holds(self, now: int) -> bool:
            return True

    evil = Lookalike()
    assert code(load_permitted, held, evil, now=now) == "permission.unverified/1"
    assert code(load_permitted, evil, permission, now=now) == "permission.unverified/1"
    forged = {".": b"evil"}
    assert code(HeldModel, forged, digest, None) == "model.unread/1"
    assert code(dataclasses.replace, held, files=forged, _seal=None) == "model.unread/1"
    other = machine.root / "other"
    other.write_bytes(b"other")
    swapped = read_model(other)
    assert code(load_permitted, swapped, permission, now=now) == "permission.wrong_artifact/1"


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
    assert code(trusted.load, folder) == "runtime.missing/3"
    for name in ("pickle", "unknown", "torch"):
        assert code(trusted.load, machine.root / name) == "runtime.missing/3"


def test_what_is_read_has_the_digest_that_staging_gives(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"1")
    (folder / "b").touch()
    assert read_model(folder).digest == stage(folder, tmp_path / "staging").digest
    file = folder / "a" / "x"
    assert read_model(file).digest == stage(file, tmp_path / "staging").digest
    assert dict(read_model(folder).files) == {"a/x": b"1", "b": b""}


def test_links_limits_and_files_that_grow(tmp_path: Path, code: Code) -> None:
    (tmp_path / "m").mkdir()
    assert code(read_model, tmp_path / "m") == "model.empty/2"
    (tmp_path / "m" / "x").write_bytes(b"12345")
    assert code(read_model, tmp_path / "m", 4) == "model.too_large/2"
    (tmp_path / "m" / "y").symlink_to(tmp_path / "m" / "x")
    assert code(read_model, tmp_path / "m") == "model.symlink/2"
    # The kernel promises nothing of this file, and it holds something.
    assert code(read_model, Path("/proc/self/status")) == "model.changing/2"


def test_a_read_error_is_no_decision(code: Code) -> None:
    # The kernel answers a read of the first page of a process's memory with EIO.
    with open("/proc/self/mem", "rb") as file, pytest.raises(OperationalError) as caught:
        loading._whole(file, "x", 1 << 20)
    assert caught.value.code == "model.unreadable"
