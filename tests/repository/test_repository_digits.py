"""The example publishes a model the way the page says: the same bytes each time, and signed."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from examples.digits import train
from keepstone.contract.onnx import derive_contract, read_onnx
from keepstone.core.digest import Digest
from keepstone.errors import VerificationError
from keepstone.evidence.dsse import Envelope, verify_envelope
from keepstone.evidence.modelsign import verify_model
from keepstone.evidence.predicates import Training
from keepstone.evidence.statement import open_payload
from keepstone.identity.signing import load_public_key

NOW = 1_790_000_000_000


@pytest.fixture(scope="module")
def trained() -> train.Trained:
    return train.train()


@pytest.fixture
def published(trained: train.Trained, tmp_path: Path) -> Path:
    key = train.publisher_key(tmp_path / "publisher.pem")
    assert train.publish(trained, tmp_path, key, NOW)
    return tmp_path


def test_it_is_accurate_enough_and_says_so_in_decimals(trained: train.Trained) -> None:
    assert float(trained.metrics["accuracy"]) >= 0.95


def test_the_same_training_gives_the_same_bytes(trained: train.Trained) -> None:
    assert train.train().onnx == trained.onnx


def test_the_model_carries_its_contract(trained: train.Trained) -> None:
    contract = derive_contract(read_onnx(memoryview(trained.onnx)))

    assert contract == train.CONTRACT
    assert contract.ranges_declared
    assert contract.inputs[0].features[9] == "pixel_1_1"


def test_the_model_runs_and_knows_its_sample(published: Path, trained: train.Trained) -> None:
    request = json.loads((published / "sample.json").read_bytes())
    (sent,) = request["inputs"]
    session = onnxruntime.InferenceSession(trained.onnx, providers=["CPUExecutionProvider"])

    label, probabilities = session.run(
        ["label", "probabilities"],
        {"input": np.array(sent["data"], np.float32).reshape(sent["shape"])},
    )

    assert label.tolist() == [trained.label]
    assert probabilities.shape == (1, 10)
    assert probabilities.dtype == np.float32
    assert request["id"] == f"a-{trained.label}"


def test_the_signature_and_the_statement_are_the_publishers(published: Path) -> None:
    key = load_public_key(published / "publisher.pub.pem")
    path = published / "digits.onnx"

    assert verify_model(path, (published / "digits.onnx.sig").read_bytes(), key).key_id
    (line,) = (published / "digits.onnx.statements.jsonl").read_bytes().splitlines()
    envelope = Envelope.parse(line)
    assert verify_envelope(envelope, {key.key_id: key}) == (key.key_id,)
    statement = open_payload(envelope)
    assert isinstance(statement.predicate, Training)
    assert statement.subject == train.subject_of(path.read_bytes())
    assert statement.file_sha256 == Digest.of(path.read_bytes())
    assert statement.predicate.dataset.name == "uci-digits"
    assert statement.predicate.metrics["test_samples"] == "450"


def test_a_changed_model_is_not_what_was_signed(published: Path) -> None:
    key = load_public_key(published / "publisher.pub.pem")
    path = published / "digits.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(VerificationError):
        verify_model(path, (published / "digits.onnx.sig").read_bytes(), key)


def test_the_private_key_is_its_owners_alone_and_is_used_again(published: Path) -> None:
    path = published / "publisher.pem"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert train.publisher_key(path).key_id == train.publisher_key(path).key_id


def test_what_was_signed_before_is_kept(published: Path, trained: train.Trained) -> None:
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    key = train.publisher_key(published / "publisher.pem")

    assert not train.publish(trained, published, key, NOW + 1)
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


@pytest.mark.parametrize("name", ["digits.onnx", "digits.onnx.sig", "digits.onnx.statements.jsonl"])
def test_what_no_longer_holds_is_signed_anew(
    published: Path, trained: train.Trained, name: str
) -> None:
    key = train.publisher_key(published / "publisher.pem")
    (published / name).write_bytes(b"{}")

    assert train.publish(trained, published, key, NOW + 1)
    assert train.still_signed(published, trained.onnx, key)


def test_another_publishers_signature_is_not_kept(published: Path, trained: train.Trained) -> None:
    other = train.publisher_key(published / "other.pem")

    assert not train.still_signed(published, trained.onnx, other)
    assert not train.still_signed(published, replace(trained, onnx=b"x").onnx, other)
