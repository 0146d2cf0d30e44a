"""Verified loads: an admission and the bytes it names, or no model."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from keepstone.core.digest import Digest
from keepstone.errors import DeniedError, KeepstoneError, OperationalError, VerificationError
from keepstone.policy.admission import Admission
from keepstone.vault.keks.file import FileKek
from keepstone.vault.load import LOADERS, load_files, load_sealed, load_verified, loader_for
from keepstone.vault.load.onnx import CONFIGURATION, _runtime_errors, open_session
from keepstone.vault.seal import seal
from keepstone.vault.staging import Staged, stage
from keepstone.vault.stores.files import FileStore
from keepstone.vault.verified import VerifiedFiles, verify_files
from tests.vault.permits import NOW, permit, permit_staged

Write = Callable[..., Path]


def admit(staged: Staged, contract: Digest | None = None) -> Admission:
    return permit_staged(staged) if contract is None else permit(staged.digest, contract)


@pytest.fixture
def staged(tmp_path: Path, onnx_file: Write) -> Staged:
    return stage(onnx_file(), tmp_path / "staging")


def predict(loaded: Any) -> list[float]:
    found = loaded.runtime.predict({"x": np.ones((1, 3), np.float32)})
    return [float(value) for value in found["y"][0]]


def test_an_admitted_model_is_loaded_and_predicts(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    seal(staged, store, kek, "scale")
    loaded = load_sealed(store, kek, admit(staged), now=NOW)
    assert predict(loaded) == [2.0, 2.0, 2.0]
    assert loaded.contract.inputs[0].shape == (-1, 3)


def test_no_admission_no_model(store: FileStore, kek: FileKek, staged: Staged) -> None:
    @dataclasses.dataclass
    class Lookalike:
        name: str
        artifact: Digest
        contract: Digest

        def holds(self, now: int) -> bool:
            return True

    seal(staged, store, kek, "scale")
    fake = Lookalike("scale", staged.digest, Digest.of(b""))
    with pytest.raises(VerificationError) as caught:
        load_sealed(store, kek, fake, now=NOW)  # type: ignore[arg-type]
    assert caught.value.code == "permission.unverified"


@pytest.mark.parametrize("now", [NOW - 1, NOW + 1000])
def test_an_admission_out_of_its_time_loads_nothing(
    store: FileStore, kek: FileKek, staged: Staged, now: int
) -> None:
    seal(staged, store, kek, "scale")
    with pytest.raises(DeniedError) as caught:
        load_sealed(store, kek, admit(staged), now=now)
    assert caught.value.code == "permission.expired"


def test_another_contract_than_the_admitted_one_loads_nothing(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    seal(staged, store, kek, "scale")
    with pytest.raises(VerificationError) as caught:
        load_sealed(store, kek, admit(staged, Digest.of(b"other")), now=NOW)
    assert caught.value.code == "admission.wrong_contract"


def test_a_model_put_in_the_place_of_an_admitted_one_is_not_loaded(
    tmp_path: Path, store: FileStore, kek: FileKek, onnx_file: Write
) -> None:
    good = stage(onnx_file(), tmp_path / "staging")
    evil = stage(onnx_file("evil.onnx", 666.0), tmp_path / "staging")
    for staged in (good, evil):
        seal(staged, store, kek, "scale")
    store.path(good.digest, "scale").write_bytes(store.path(evil.digest, "scale").read_bytes())
    with pytest.raises(VerificationError) as caught:
        load_sealed(store, kek, admit(good), now=NOW)
    assert caught.value.code == "seal.wrong_key"


def test_swapping_between_stage_and_load_never_wins(
    tmp_path: Path, store: FileStore, kek: FileKek, onnx_file: Write
) -> None:
    """The race: source and blob are swapped all the time; the admitted model answers, or none."""
    source = onnx_file()
    good, evil = source.read_bytes(), onnx_file("evil.onnx", 666.0).read_bytes()
    admitted = stage(source, tmp_path / "staging")
    admission = admit(admitted)
    bad = stage(tmp_path / "evil.onnx", tmp_path / "staging")
    seal(bad, store, kek, "scale")
    seal(admitted, store, kek, "scale")
    path = store.path(admitted.digest, "scale")
    blobs = [path.read_bytes(), store.path(bad.digest, "scale").read_bytes()]
    stop = threading.Event()

    def swap() -> None:
        step = 0
        while not stop.is_set():
            for target, versions in ((source, [good, evil]), (path, blobs)):
                other = target.with_name("other")
                other.write_bytes(versions[step % 2])
                other.replace(target)
            step += 1

    thread = threading.Thread(target=swap)
    thread.start()
    loads = refusals = 0
    try:
        for _ in range(150):
            try:
                assert predict(load_sealed(store, kek, admission, now=NOW)) == [2.0, 2.0, 2.0]
                loads += 1
            except VerificationError as error:
                assert error.code.startswith("seal.")  # noqa: PT017
                refusals += 1
            staged = stage(source, tmp_path / "staging")
            content = staged.path.read_bytes()
            assert staged.digest == (admitted.digest if content == good else bad.digest)
            staged.discard()
    finally:
        stop.set()
        thread.join()
    assert loads
    assert refusals


def with_external_data(path: Path, folder: Path) -> bytes:
    """The model at `path` with its weights moved into `folder`/weights.bin."""
    model = onnx.ModelProto.FromString(path.read_bytes())
    weight: TensorProto = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    weight.external_data.add(key="length", value="12")
    return model.SerializeToString()


def test_external_data_is_refused(
    tmp_path: Path, store: FileStore, kek: FileKek, onnx_file: Write
) -> None:
    (tmp_path / "outside.onnx").write_bytes(with_external_data(onnx_file(), tmp_path))
    staged = stage(tmp_path / "outside.onnx", tmp_path / "staging")
    seal(staged, store, kek, "scale")
    with pytest.raises(VerificationError) as caught:
        load_sealed(store, kek, admit(staged, Digest.of(b"any")), now=NOW)
    assert caught.value.code == "model.external_data"


def test_the_runtime_itself_opens_nothing_in_the_working_directory(
    tmp_path: Path, onnx_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line: given bytes, onnxruntime reads weights.bin from where we stand.

    This fails if the session's option that points it nowhere is removed.
    """
    data = with_external_data(onnx_file(), tmp_path)
    monkeypatch.chdir(tmp_path)
    import onnxruntime

    def opens(configuration: dict[str, str]) -> bool:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Without its optimiser, which happens to stumble over such a model.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        for name, value in configuration.items():
            options.add_session_config_entry(name, value)
        try:
            onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except _runtime_errors():
            return False
        return True

    assert opens({})
    assert not opens(CONFIGURATION)
    with pytest.raises(OperationalError) as caught:
        open_session(data)
    assert caught.value.code == "runtime.refused"


def test_a_model_may_not_set_up_its_own_session(
    onnx_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    with pytest.raises(OperationalError) as caught:
        open_session(onnx_file().read_bytes())
    assert caught.value.code == "runtime.unsafe_environment"


def test_what_the_runtime_refuses_is_said(
    tmp_path: Path, store: FileStore, kek: FileKek, onnx_file: Write
) -> None:
    model = onnx.ModelProto.FromString(onnx_file().read_bytes())
    model.graph.node[0].op_type = "NoSuchOperator"
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    staged = stage(tmp_path / "bad.onnx", tmp_path / "staging")
    seal(staged, store, kek, "scale")
    with pytest.raises(OperationalError) as caught:
        load_sealed(store, kek, admit(staged), now=NOW)
    assert caught.value.code == "runtime.refused"


def test_an_input_that_the_model_fails_on_is_said(
    store: FileStore, kek: FileKek, staged: Staged
) -> None:
    seal(staged, store, kek, "scale")
    loaded = load_sealed(store, kek, admit(staged), now=NOW)
    for wrong in ({"x": np.ones((1, 4), np.float32)}, {"x": np.ones((1, 3), np.int64)}, {}):
        with pytest.raises(OperationalError) as caught:
            loaded.runtime.predict(wrong)
        assert caught.value.code == "runtime.failed"


def test_formats_without_a_runtime_are_named() -> None:
    assert loader_for("onnx") is LOADERS["onnx"]
    with pytest.raises(OperationalError) as caught:
        loader_for("pickle")
    assert caught.value.code == "runtime.missing"
    assert "pickle" in caught.value.cause


# Plain files, and permissions of every kind ---------------------------------------------------


def test_plain_files_are_loaded_for_a_permission(tmp_path: Path, staged: Staged) -> None:
    loaded = load_files(tmp_path / "model.onnx", admit(staged), now=NOW)
    assert predict(loaded) == [2.0, 2.0, 2.0]
    assert loaded.format == "onnx"


def test_plain_files_without_a_permission_are_not_even_read(staged: Staged) -> None:
    """The path is never opened: this fails if the permission is asked for afterwards."""
    with pytest.raises(DeniedError) as caught:
        load_files(Path("/nowhere"), admit(staged), now=NOW + 1000)
    assert caught.value.code == "permission.expired"


def test_other_files_than_the_permitted_ones_are_refused(
    tmp_path: Path, onnx_file: Write, staged: Staged
) -> None:
    admission = admit(staged)
    evil = onnx_file("evil.onnx", 666.0)
    with pytest.raises(VerificationError) as caught:
        load_files(evil, admission, now=NOW)
    assert caught.value.code == "model.wrong_digest"
    other = stage(evil, tmp_path / "staging")
    with (
        verify_files(evil, other.digest) as files,
        pytest.raises(VerificationError) as again,
    ):
        load_verified(files, admission, now=NOW)
    assert again.value.code == "model.wrong_digest"


def test_verified_files_cannot_be_made_by_hand(staged: Staged) -> None:
    with pytest.raises(VerificationError) as caught:
        VerifiedFiles(staged.digest, {}, object())
    assert caught.value.code == "model.unverified"
    with pytest.raises(VerificationError) as again:
        load_verified(staged, admit(staged), now=NOW)  # type: ignore[arg-type]
    assert again.value.code == "model.unverified"


def test_a_subclass_of_an_admission_is_no_permission(staged: Staged) -> None:
    """It could leave out the check that an admission makes when it is made."""
    real = admit(staged)

    class Forged(Admission):
        def __post_init__(self) -> None:
            return

    names = [item.name for item in dataclasses.fields(real)]
    forged = Forged(*(getattr(real, name) for name in names))
    with pytest.raises(VerificationError) as caught:
        load_verified(staged, forged, now=NOW)  # type: ignore[arg-type]
    assert caught.value.code == "permission.unverified"


def test_threads_may_predict_together(store: FileStore, kek: FileKek, staged: Staged) -> None:
    seal(staged, store, kek, "scale")
    loaded = load_sealed(store, kek, admit(staged), now=NOW)
    wrong: list[object] = []

    def work(factor: int) -> None:
        batch = np.full((4, 3), factor, np.float32)
        for _ in range(200):
            if (loaded.runtime.predict({"x": batch})["y"] != 2 * factor).any():
                wrong.append(factor)

    threads = [threading.Thread(target=work, args=(factor,)) for factor in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_errors_hold_no_bytes_of_the_model(tmp_path: Path, store: FileStore, kek: FileKek) -> None:
    (tmp_path / "text").write_bytes(b"\x08\x0a private notes")
    staged = stage(tmp_path / "text", tmp_path / "staging")
    seal(staged, store, kek, "scale")
    with pytest.raises(KeepstoneError) as caught:
        load_sealed(store, kek, admit(staged, Digest.of(b"any")), now=NOW)
    assert "private" not in str(caught.value)
    assert os.fspath(tmp_path) not in str(caught.value)
