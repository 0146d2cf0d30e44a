"""Keras: what a configuration names decides, in an archive, in HDF5 and beside a SavedModel."""

from __future__ import annotations

import base64
import io
import json
import marshal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import scan_file
from tests.scan.judging import outcome_of

Config = dict[str, Any]
CODE = base64.b64encode(marshal.dumps(compile("1", "x", "eval"))).decode()


def layer(kind: str, origin: str | None = "keras.layers", /, **config: Any) -> Config:
    found: Config = {"class_name": kind, "config": config, "registered_name": None}
    return found if origin is None else {"module": origin, **found}


def model(*layers: Config, **parts: Any) -> Config:
    dense = layer(
        "Dense",
        name="dense",
        units=2,
        activation="relu",
        dtype=layer("DTypePolicy", "keras", name="float32"),
        kernel_initializer=layer("GlorotUniform", "keras.initializers", seed=None),
        kernel_regularizer=layer("L2", "keras.regularizers", l2=0.01),
    )
    compiled = {
        "optimizer": layer("Adam", "keras.optimizers", learning_rate=0.001),
        "loss": {
            "module": "builtins",
            "class_name": "function",
            "config": "mean_squared_error",
            "registered_name": "function",
        },
        "metrics": ["accuracy", layer("AUC", "keras.metrics", name="auc")],
    }
    config = {"name": "m", "layers": [layer("InputLayer", batch_shape=[None, 3]), dense, *layers]}
    return {
        **layer("Sequential", "keras", **config),
        "build_config": {"input_shape": [None, 3]},
        "compile_config": compiled,
        **parts,
    }


def weights() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.zeros((3, 2), np.float32))
        file["layers/dense/vars"].attrs["name"] = "dense"
    return out.getvalue()


def archive(config: Config | bytes, **more: bytes) -> bytes:
    out = io.BytesIO()
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    members = {
        "metadata.json": b'{"keras_version": "3.12.0", "date_saved": "2026-01-01@00:00:00"}',
        "config.json": text,
        "model.weights.h5": weights(),
        **{name.replace("__", "/"): data for name, data in more.items()},
    }
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def old(config: Config, training: Config | None = None) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)
        file.create_dataset("model_weights/dense/kernel:0", data=np.zeros((3, 2)))
    return out.getvalue()


@pytest.fixture
def scan(tmp_path: Path) -> Callable[[bytes], FileReport]:
    def judge(data: bytes) -> FileReport:
        (tmp_path / "file").write_bytes(data)
        return scan_file(tmp_path / "file")

    return judge


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


def test_ordinary_models_are_clean(scan: Callable[[bytes], FileReport]) -> None:
    wrapped = layer("Bidirectional", layer=layer("LSTM", units=3), merge_mode="concat")
    words = layer("StringLookup", vocabulary=["a", "b"], oov_token="[UNK]")
    operation = layer("GetItem", "keras.src.ops.numpy", name="get_item")
    functional = layer("Functional", "keras.src.models.functional", layers=[])
    report = scan(archive(model(wrapped, words, operation, functional)))
    assert (report.format, report.findings) == ("keras", ())
    assert scan(archive(model(), **{"assets__vocabulary.txt": b"one\ntwo\n"})).findings == ()
    legacy = layer(
        "Dense",
        None,
        units=3,
        activation="relu",
        kernel_initializer={"class_name": "VarianceScaling", "config": {"scale": 1.0}},
    )
    config = layer("Sequential", None, layers=[legacy])
    training = {"optimizer_config": {"class_name": "adam", "config": {}}, "loss": "mse"}
    report = scan(old(config, training))
    assert (report.format, report.findings) == ("hdf5", ())


FLAGGED = {
    "keras.lambda": [
        layer("Lambda", function={"class_name": "__lambda__", "config": {"code": CODE}}),
        layer("Lambda", None, function=[CODE, None, None], function_type="lambda"),
        layer("lambda", "keras.layers"),
        layer("Dense", activation={"class_name": "__lambda__", "config": {"code": CODE}}),
        layer("Dense", units=CODE),
        layer("TorchModuleWrapper", module="gASV"),
        layer("JaxLayer", "keras.src.utils.jax_layer"),
    ],
    "keras.import": [
        layer("function", "os", x=1) | {"config": "system"},
        layer("Popen", "subprocess", args=["id"]),
        layer("get_file", "keras.utils", fname="x"),
        layer("function", "keras.src.utils.file_utils") | {"config": "get_file"},
        layer("function", "builtins") | {"config": "eval"},
        layer("function", None) | {"config": "exec"},
        layer("load_model", "keras.models"),
        layer("function", "keras.config") | {"config": "enable_unsafe_deserialization"},
        layer("PyDataset", "keras.utils"),
        layer("ModelCheckpoint", "keras.callbacks"),
        layer("Dense", "Keras.layers"),
        layer("Dense", "keras.layers\n"),
        layer("Dense", "kerаs.layers"),  # noqa: RUF001  # a Cyrillic letter
        layer("Dense", "kerasx.layers"),
        layer("Dense", "evil.keras.layers"),
        layer("__reduce__"),
        layer("__typespec__", "os", name="system"),
        layer("TFOpLambda", None, function="io.write_file"),
        layer("TFOpLambda", None, function="raw_ops.WriteFile"),
        layer("TensorFlowOpLayer", None, node_def='{"op": "WriteFile"}'),
        layer("Dense", kernel_initializer=layer("system", "os")),
        layer("Bidirectional", layer=layer("LSTM", cell=layer("system", "posix"))),
    ],
    "keras.reads": [
        layer("StringLookup", vocabulary="/etc/passwd"),
        layer("TextVectorization", vocabulary="vocabulary.txt"),
        layer("IntegerLookup", None, vocabulary="gs://bucket/x"),
        layer("TFSMLayer", filepath="/tmp/x"),
        layer("Dense", origin="http://host/x"),
    ],
    "keras.malformed": [
        {"class_name": ["Dense"], "config": {}},
        layer("Dense", "keras") | {"module": ["keras"]},
    ],
}
CASES = [(rule, found) for rule, many in FLAGGED.items() for found in many]


@pytest.mark.parametrize(("rule", "found"), CASES)
def test_each_rule_flags_in_archives_and_in_hdf5(
    scan: Callable[[bytes], FileReport], rule: str, found: Config
) -> None:
    for data in (archive(model(found)), old(model(found)), old(model(), {"loss": found})):
        report = scan(data)
        assert report.outcome is Outcome.FLAGGED
        assert rule in rules(report)


@pytest.mark.parametrize("part", ["optimizer", "loss", "metrics", "weighted_metrics"])
def test_every_part_is_looked_at(scan: Callable[[bytes], FileReport], part: str) -> None:
    config = model()
    config["compile_config"][part] = [{"a": layer("system", "os")}]
    assert "keras.import" in rules(scan(archive(config)))


@pytest.mark.parametrize(
    "found",
    [
        layer("Mine", "__main__") | {"registered_name": "Custom>Mine"},
        layer("Mine", None) | {"class_name": "Custom>Mine"},
        layer("Dense", "keras.layers") | {"registered_name": "Custom>Dense"},
        layer("function", "builtins") | {"config": "my_loss"},
        layer("TFOpLambda", None, function="no.such"),
        layer("TensorFlowOpLayer", None, node_def="{"),
    ],
)
def test_what_must_come_from_elsewhere_is_flagged(
    scan: Callable[[bytes], FileReport], found: Config
) -> None:
    report = scan(archive(model(found)))
    assert report.outcome is Outcome.FLAGGED
    assert rules(report) == {"keras.custom_object"}


@pytest.mark.parametrize("module", ["keras_hub.layers", "keras.layers", "keras.src.layers.core"])
def test_what_a_later_keras_may_have_is_not_evaluated(
    scan: Callable[[bytes], FileReport], module: str
) -> None:
    report = scan(archive(model(layer("BrandNewLayer", module))))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert rules(report) == {"keras.unknown_class"}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b'{"class_name": "Sequential", "config": {"a": 1, "\\u0061": 2}}', "keras.ambiguous"),
        (b"{", "keras.malformed"),
        (b"[]", "keras.malformed"),
        (b'{"class_name": "Sequential", "config": NaN}', "keras.malformed"),
        (b'{"class_name":' * 5000 + b"1" + b"}" * 5000, "keras.malformed"),
        (b"\xff", "keras.malformed"),
    ],
)
def test_a_configuration_has_one_reading(
    scan: Callable[[bytes], FileReport], text: bytes, rule: str
) -> None:
    assert rule in rules(scan(archive(text)))


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_a_large_configuration_in_hdf5_isoutcome_of(
    scan: Callable[[bytes], FileReport], version: str
) -> None:
    """Past 64 KiB a value lies elsewhere, and where depends on how it is written."""
    text = json.dumps(model(*[layer("Dense", units=i) for i in range(3000)], layer("system", "os")))
    for value in (text, np.bytes_(text.encode()) if version == "latest" else text):
        out = io.BytesIO()
        with h5py.File(out, "w", libver=version) as file:
            file.attrs["model_config"] = value
        assert rules(scan(out.getvalue())) == {"keras.import"}


def test_a_configuration_in_hdf5_has_one_reading(scan: Callable[[bytes], FileReport]) -> None:
    for text, rule in (('{"a": 1, "a": 2}', "keras.ambiguous"), ("{", "keras.malformed")):
        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            file.attrs["model_config"] = text
        assert rules(scan(out.getvalue())) == {rule}


def test_everything_in_an_archive_is_looked_at(scan: Callable[[bytes], FileReport]) -> None:
    evil = b"cos\nsystem\n(S'true'\ntR."
    assert "pickle.dangerous_import" in rules(scan(archive(model(), assets__x=evil)))
    assert "pickle.dangerous_import" in rules(scan(archive(model(), more__deep=evil)))
    inner = json.dumps(model(layer("system", "os"))).encode()
    assert "keras.import" in rules(scan(archive(model(), **{"other__config.json": inner})))
    shell = b"import os; os.system('id')"
    assert "code.process" in rules(scan(archive(model(), assets__vocab=shell)))
    assert scan(archive(model(), assets__x=bytes([0, 255]) * 50)).outcome is Outcome.NOT_EVALUATED
    linked = io.BytesIO()
    with h5py.File(linked, "w") as file:
        file["x"] = h5py.ExternalLink("/etc/passwd", "/x")
    found = archive(model(), weights__more=linked.getvalue())
    assert "hdf5.external" in rules(scan(found))


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["class_name", "config", "module", "registered_name", "function", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    ),
    st.integers(0, 3),
)
def test_a_payload_is_found_wherever_it_lies(noise: Any, depth: int) -> None:
    found: Any = layer("system", "os")
    for _ in range(depth):
        found = {"x": [noise, {"config": found}]}
    assert outcome_of(archive(model({"noise": noise, "found": found}))) is Outcome.FLAGGED


def test_the_allow_list_holds_building_blocks_only() -> None:
    from keepstone.scan.keras.names import CODE, is_class, is_function

    for name in ("Dense", "Adam", "AUC", "GlorotUniform", "Functional", "GetItem", "CosineDecay"):
        assert is_class(name), name
    for name in ("relu", "mean_squared_error", "mse"):
        assert is_function(name), name
    for name in (*CODE, "get_file", "load_model", "deserialize", "get", "eval", "PyDataset"):
        assert not is_class(name), name
        assert not is_function(name), name
