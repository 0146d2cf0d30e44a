"""What a vault's runtime serves, as a target: which output is the label, which the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.contract.validate import NUMPY, Array
from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.attacks.evasion.random_search import RandomSearch
from keepstone.lab.attacks.port import run_attack
from keepstone.lab.domain import Domain
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import LINF
from keepstone.lab.targets.classes import Classes
from keepstone.lab.targets.outputs import Tensors
from keepstone.lab.targets.port import UNANSWERED, Capability
from keepstone.lab.targets.runtime import RuntimeTarget
from keepstone.vault.load import prepare
from keepstone.vault.verified import verify_files

X = TensorSpec("x", DType.FP32, (-1, 2, 2), 0.0, 1.0)
LABEL = TensorSpec("label", DType.INT64, (-1,))
TEXT = TensorSpec("text", DType.BYTES, (-1,))
SCORES = TensorSpec("scores", DType.FP32, (-1, 3))
ONE = TensorSpec("one", DType.FP32, (-1, 1))
MAP = TensorSpec("map", DType.FP32, (-1, 8, 8))


class Served:
    """Scores that are linear in four numbers, their softmax, their best, and its name."""

    def __init__(self, *, logits: bool = False, short: bool = False, nan: bool = False) -> None:
        self.weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
        self.logits, self.short, self.nan = logits, short, nan
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        assert list(inputs) == ["x"]
        self.shapes.append(inputs["x"].shape)
        rows = inputs["x"].reshape(len(inputs["x"]), -1)
        scores = (rows - 0.5) @ self.weights
        powers = np.exp(scores)
        shares = powers / powers.sum(axis=1, keepdims=True)
        if self.nan:
            scores[rows[:, 0] > 0.5] = np.nan
        best = scores.argmax(axis=1)
        names = np.array([b"cat", b"dog", b"emu"], object)
        found = {
            "label": best.astype(np.int64),
            "text": names[best],
            "scores": scores if self.logits else shares,
            "one": shares[:, 1:2],
        }
        return {name: value[: len(rows) - self.short] for name, value in found.items()}


def target(
    *outputs: TensorSpec, served: Served | None = None, labels: Sequence[object] | None = None
) -> RuntimeTarget:
    tensors = Tensors.of(ModelContract((X,), outputs))
    names = range(tensors.score_count or 3) if labels is None else labels
    classes = Classes(tuple(map(str, names)))
    return RuntimeTarget(served or Served(), tensors, Domain.of_spec(tensors.input), classes)


ROWS = np.random.default_rng(1).uniform(0, 1, (50, 4)).astype(np.float32)


def test_the_domain_is_that_of_the_contract() -> None:
    domain = Domain.of_spec(X)
    assert (domain.shape, domain.dtype.name, domain.width) == ((2, 2), "float32", 4)
    assert (domain.low.tolist(), domain.high.tolist()) == ([0.0] * 4, [1.0] * 4)
    for open_ in (TensorSpec("x", DType.FP32, (-1, 3)), TensorSpec("x", DType.FP32, (-1, -1))):
        with pytest.raises(InputError) as caught:
            Domain.of_spec(open_)
        assert caught.value.code == "attack.bad_domain"
    found = Domain.of_spec(TensorSpec("x", DType.UINT8, (-1, 3)), 0, 9)
    assert (found.dtype, found.high.tolist()) == (np.dtype(NUMPY[DType.UINT8]), [9.0] * 3)


def test_a_label_is_served_beside_its_scores() -> None:
    both = target(MAP, SCORES, LABEL)
    assert both.capabilities == {Capability.LABEL, Capability.SCORES}
    found = both.predict(ROWS)
    assert found.scores is not None
    assert (found.labels == found.scores.argmax(axis=1)).all()
    # Probabilities come as their logarithms, logits as they are.
    assert np.allclose(np.exp(found.scores).sum(axis=1), 1, atol=1e-5)
    logits = Served(logits=True)
    raw = target(SCORES, LABEL, served=logits).predict(ROWS).scores
    assert raw is not None
    assert np.allclose(raw, (ROWS - 0.5) @ logits.weights, atol=1e-6)
    assert logits.shapes[-1] == (50, 2, 2)


def test_without_a_label_it_is_the_best_score_and_without_scores_there_are_none() -> None:
    scored = target(SCORES)
    assert (scored.predict(ROWS).labels == target(SCORES, LABEL).predict(ROWS).labels).all()
    alone = target(LABEL, labels=[0, 1, 2])
    assert alone.capabilities == {Capability.LABEL}
    assert alone.predict(ROWS).scores is None


def test_texts_are_classes_by_name() -> None:
    texts = target(TEXT, SCORES, labels=["cat", "dog", "emu"])
    assert (texts.predict(ROWS).labels == target(SCORES, LABEL).predict(ROWS).labels).all()
    with pytest.raises(InputError) as caught:
        target(TEXT, SCORES, labels=["cat", "dog", "gnu"]).predict(ROWS)
    assert caught.value.code == "target.bad_labels"


def test_one_probability_is_that_of_the_second_class() -> None:
    found = target(ONE).predict(ROWS)
    assert found.scores is not None
    shares = Served().predict({"x": ROWS.reshape(-1, 2, 2)})["one"][:, 0]
    assert np.allclose(np.exp(found.scores[:, 1]), shares, atol=1e-6)
    assert (found.labels == (shares > 0.5)).all()


def test_what_is_broken_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        target(SCORES, labels=["a", "b"])
    assert caught.value.code == "target.bad_labels"
    with pytest.raises(OperationalError) as broken:
        target(SCORES, served=Served(short=True))
    assert broken.value.code == "target.broken"


def test_scores_that_are_no_numbers_are_no_answer() -> None:
    odd = target(SCORES, served=Served(logits=True, nan=True))
    labels = odd.predict(ROWS).labels
    assert ((labels == UNANSWERED) == (ROWS[:, 0] > 0.5)).all()
    # Wrong by NaN is not wrong: an attack that finds only those has found nothing.
    at = np.flatnonzero(labels != UNANSWERED)
    meter = Meter(odd, ROWS[at], labels[at], Goal(LINF, 0.2, 20))
    run_attack(RandomSearch(), meter, np.random.default_rng(0))
    tally = meter.tally()
    broken = tally.within(0.2)
    assert tally.unanswered.sum() > 0
    assert (tally.rows[broken, 0] <= 0.5).all()


def test_an_onnx_model_is_attacked_through_the_vaults_runtime(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weights = Served().weights
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    content = path.read_bytes()
    digest = artifact_digest([FileDigest(".", len(content), Digest.of(content))])
    with verify_files(path, digest) as files:
        _, prepared = prepare(files)
        runtime, contract = prepared.start(), prepared.contract
    tensors = Tensors.of(contract)
    domain = Domain.of_spec(tensors.input, -1, 1)
    found = RuntimeTarget(runtime, tensors, domain, Classes(("0", "1", "2")))
    y = (ROWS @ weights).argmax(axis=1)
    assert found.predict(ROWS).labels.tolist() == y.tolist()
    meter = Meter(found, ROWS, y, Goal(LINF, 0.3, 20))
    run_attack(RandomSearch(), meter, np.random.default_rng(0))
    assert isinstance(found.domain, Domain)
    assert meter.tally().within(0.3).mean() > 0.5
