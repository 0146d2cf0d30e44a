"""`up` takes every format that has a loader: through scan, gate, seal and load to an answer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from keepstone.contract.sample import sample_request
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.evidence.predicates import Admission, Sealing
from keepstone.gateway.endpoint import Endpoint
from keepstone.scan.report import FileReport
from keepstone.vault.staging import Staged
from keepstone.workspace import intake as room
from keepstone.workspace.admit import Admitted, Submission, submit
from keepstone.workspace.loading import load
from keepstone.workspace.sealing import newest_sealing, next_sealing

SCALE = "tests.vault.architectures:Scale"
ROW = np.array([[1, 2, 3]], np.float32)
CONTRACT = {
    "schema": "keepstone.contract/v1",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "low": -9, "high": 9}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}


def contract(place: Any, **changes: Any) -> Path:
    path: Path = place.root / "contract.json"
    path.write_text(json.dumps(CONTRACT | changes))
    return path


def bring(place: Any, workspace: Any, path: Path, **given: Any) -> Admitted:
    from tests.workspace.observers import Silent

    return submit(workspace, replace(Submission.of(path, name="scale"), **given), Silent())


def torch_weights(place: Any, need_module: Callable[[str], Any]) -> Path:
    torch = need_module("torch")
    buffer = io.BytesIO()
    torch.save({"weight": torch.full((3,), 2.0), "steps": torch.tensor([7])}, buffer)
    path: Path = place.root / "w.pt"
    path.write_bytes(buffer.getvalue())
    return path


def test_weights_are_served_with_a_contract_and_a_consent_on_the_record(
    home: Any, need_module: Callable[[str], Any]
) -> None:
    path = torch_weights(home, need_module)
    with home.open() as workspace:
        admitted = bring(home, workspace, path, contract=contract(home), architecture=SCALE)
        subject = admitted.verdict.subject
        answer = admitted.loaded.runtime.predict({"x": ROW})
        assert newest_sealing(workspace.evidence, subject) == 1
    assert answer["y"].tolist() == [[2.0, 4.0, 6.0]]
    (consent,) = home.events("architecture.consented")
    assert consent["architecture"] == SCALE
    assert consent["digest"] == subject.digest.hex
    assert consent["contract"] == admitted.admission.contract.hex
    # The gateway holds requests to the ranges that lie in the artifact.
    assert admitted.contract.ranges_declared
    codec = Endpoint("scale", admitted.contract, admitted.loaded.runtime).codec
    assert codec.decode_infer(sample_request(admitted.contract)).inputs["x"].shape == (1, 3)


def test_another_architecture_is_another_admission(
    home: Any, need_module: Callable[[str], Any], code: Callable[..., str]
) -> None:
    """One artifact; what may be imported for it is bound where nobody can change it later."""
    path, said = torch_weights(home, need_module), contract(home)
    several = SCALE.replace("Scale", "Several")
    with home.open() as workspace:
        first = bring(home, workspace, path, contract=said, architecture=SCALE)
        second = bring(home, workspace, path, contract=said, architecture=several)
    assert first.verdict.subject == second.verdict.subject
    assert first.admission.contract != second.admission.contract
    model = load("scale", workspace=home.site, architecture=several)
    assert model.predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]
    assert code(load, "scale", workspace=home.site, architecture=SCALE) == (
        "admission.wrong_contract/1"
    )
    assert code(load, "scale", workspace=home.site) == "model.architecture_needed/2"


def test_without_consent_or_contract_nothing_is_admitted_or_sealed(
    home: Any, need_module: Callable[[str], Any], code: Callable[..., str]
) -> None:
    path = torch_weights(home, need_module)
    with home.open() as workspace:
        for given, expected in (
            ({"architecture": SCALE}, "contract.missing/2"),
            ({"contract": contract(home)}, "model.architecture_needed/2"),
        ):
            assert code(bring, home, workspace, path, **given) == expected
        kinds = {item.kind for item in workspace.evidence.statements}
    assert kinds == {"scan"}
    assert not list(home.layout.vault.rglob("*.sealed"))
    assert not list(home.layout.staging.iterdir())
    assert not home.events("architecture.consented")


def test_a_changed_contract_is_another_artifact_that_nobody_approved(
    home: Any, need_module: Callable[[str], Any]
) -> None:
    path = torch_weights(home, need_module)
    wider = [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "low": -99, "high": 99}]
    with home.open() as workspace:
        digests = {
            bring(
                home, workspace, path, contract=contract(home, **changes), architecture=SCALE
            ).verdict.subject.digest
            for changes in ({}, {"inputs": wider})
        }
    assert len(digests) == 2


def test_trees_say_what_they_take_themselves(home: Any, need_module: Callable[[str], Any]) -> None:
    xgboost = need_module("xgboost")
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    data = xgboost.DMatrix(rows, rows[:, 0], feature_names=["age", "income"])
    booster = xgboost.train({"nthread": 1}, data, 2)
    path = home.root / "model.ubj"
    path.write_bytes(bytes(booster.save_raw("ubj")))
    with home.open() as workspace:
        admitted = bring(home, workspace, path)
    assert admitted.contract.inputs[0].features == ("age", "income")
    found = admitted.loaded.runtime.predict({"input": rows})["prediction"]
    assert np.array_equal(found, booster.inplace_predict(rows, validate_features=False))
    assert load("scale", workspace=home.site).predict(rows)["prediction"].shape == (50,)


def external(place: Any) -> Path:
    """A folder with an ONNX model whose weights lie in a file beside it."""
    path = place.model()
    model = onnx.ModelProto.FromString(path.read_bytes())
    path.unlink()
    weight = model.graph.initializer[0]
    folder: Path = place.root / "net"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def test_a_folder_with_weights_beside_the_model_is_served(home: Any) -> None:
    folder = external(home)
    with home.open() as workspace:
        admitted = bring(home, workspace, folder)
        answer = admitted.loaded.runtime.predict({"x": ROW})
    assert answer["y"].tolist() == [[2.0, 4.0, 6.0]]
    # What is loaded later comes out of the vault: the folder may be anything by then.
    (folder / "weights.bin").write_bytes(np.full((3, 3), 666, np.float32).tobytes())
    assert load("scale", workspace=home.site).predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]


def test_a_swapped_sidecar_is_another_artifact(home: Any) -> None:
    folder = external(home)
    with home.open() as workspace:
        first = bring(home, workspace, folder)
        (folder / "weights.bin").write_bytes(np.full((3, 3), 666, np.float32).tobytes())
        second = bring(home, workspace, folder)
    assert first.verdict.subject.digest != second.verdict.subject.digest


def test_a_scanner_and_a_loader_that_disagree_end_it(
    home: Any, monkeypatch: pytest.MonkeyPatch, code: Callable[..., str]
) -> None:
    """A file that two readers take for two formats was judged as one and loaded as the other."""

    def scan(staged: Staged) -> FileReport:
        digest = staged.artifact[0].sha256
        return FileReport(".", digest, staged.size, "safetensors", Outcome.CLEAN, ())

    monkeypatch.setattr(room, "scan_staged", scan)
    with home.open() as workspace:
        assert code(bring, home, workspace, home.model()) == "model.ambiguous/2"
        assert not [i for i in workspace.evidence.statements if isinstance(i.predicate, Admission)]


# Sealings --------------------------------------------------------------------------------------


def test_sealings_are_counted_under_a_name(home: Any) -> None:
    with home.open() as workspace:
        first = bring(home, workspace, home.model(scale=2.0)).verdict.subject
        second = bring(home, workspace, home.model(scale=3.0)).verdict.subject
        assert next_sealing(workspace.evidence, "scale") == 3
        assert next_sealing(workspace.evidence, "other") == 1
        # Again the first one: its blob is sound, so nothing is sealed.
        bring(home, workspace, home.model(scale=2.0))
        assert newest_sealing(workspace.evidence, first) == 1
        # Damaged, it is sealed anew, as another number.
        workspace.store.path(first.digest, "scale").write_bytes(b"damage")
        bring(home, workspace, home.model(scale=2.0))
        numbers = [
            (item.subject, item.predicate.version)
            for item in workspace.evidence.statements
            if isinstance(item.predicate, Sealing)
        ]
    assert numbers == [(first, 1), (second, 2), (first, 3)]
    assert first == Subject("scale", first.digest)


def test_a_blob_put_back_from_before_does_not_load_and_is_sealed_anew(home: Any) -> None:
    with home.open() as workspace:
        subject = bring(home, workspace, home.model()).verdict.subject
        path = workspace.store.path(subject.digest, "scale")
        old = path.read_bytes()
        path.unlink()
        bring(home, workspace, home.model())
        path.write_bytes(old)
        admitted = bring(home, workspace, home.model())
        assert newest_sealing(workspace.evidence, subject) == 3
    assert admitted.loaded.runtime.predict({"x": ROW})["y"].tolist() == [[2.0, 4.0, 6.0]]
