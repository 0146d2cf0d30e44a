"""One section per format: what is loaded, from what, and what is refused."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from keepstone.contract.schema import DType, ModelContract, parse_contract
from keepstone.core.digest import Digest
from keepstone.errors import InputError, KeepstoneError, OperationalError, VerificationError
from keepstone.vault.keks.file import FileKek
from keepstone.vault.load import Loaded, load_files, load_sealed, prepare, rehearsal
from keepstone.vault.load import skops as skops_room
from keepstone.vault.load.identify import format_of
from keepstone.vault.load.safetensors import read_header
from keepstone.vault.load.skops import read_types, trusted_nodes
from keepstone.vault.seal import seal
from keepstone.vault.staging import CONTRACT_FILE, MODEL_FILE, Staged, stage
from keepstone.vault.stores.files import FileStore
from tests.vault.permits import NOW, permit, permit_staged

Need = Callable[[str], Any]
SCALE = "tests.vault.architectures:Scale"
CONTRACT = {
    "schema": "keepstone.contract/v1",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}
ROW = {"x": np.array([[1, 2, 3]], np.float32)}


class Vault:
    """A place to put models into, and to load them from by either road."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = FileStore(root / "vault")
        self.kek = FileKek.of(bytes(range(32)))

    def write(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def contract(self, **changes: Any) -> Path:
        return self.write("contract.json", json.dumps(CONTRACT | changes).encode())

    def stage(self, path: Path, contract: Path | None = None) -> Staged:
        return stage(path, self.root / "staging", contract=contract)

    def load(self, staged: Staged, architecture: str | None = None) -> Loaded:
        """From the vault and from plain files: both roads must agree."""
        seal(staged, self.store, self.kek, "scale")
        permission = permit_staged(staged, architecture)
        loaded = load_sealed(self.store, self.kek, permission, now=NOW, architecture=architecture)
        plain = load_files(staged.path, permission, now=NOW, architecture=architecture)
        assert plain.contract == loaded.contract
        assert plain.contract.digest == permission.contract
        return loaded


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


def code(action: Callable[..., object], *given: Any, **named: Any) -> str:
    with pytest.raises(KeepstoneError) as caught:
        action(*given, **named)
    return caught.value.code


# Which file is the model ----------------------------------------------------------------------


def test_content_decides_never_a_name(vault: Vault) -> None:
    folder = vault.root / "m"
    vault.write("m/model.onnx", b"no model at all")
    assert code(prepare, vault.stage(folder)) == "runtime.missing"
    vault.write("m/readme.md", b"tree\nversion=v4\n")
    vault.write("m/notes.txt", b'{"learner":{}}')
    assert code(prepare, vault.stage(folder)) == "model.ambiguous"


@given(st.binary(max_size=200))
def test_any_bytes_have_a_format_or_none(data: bytes) -> None:
    for head in (b"", b"PK\x03\x04", b"\x08\x08", b"tree\nversion=", b'{"learner":'):
        format_of(memoryview(head + data))


def test_two_models_of_one_format_are_refused(vault: Vault, onnx_file: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        vault.write(f"m/{name}", onnx_file().read_bytes())
    assert code(prepare, vault.stage(vault.root / "m")) == "model.ambiguous"


def test_an_architecture_is_only_taken_where_one_is_needed(
    vault: Vault, onnx_file: Callable[..., Path]
) -> None:
    """It would be recorded as consent to something that never happens."""
    assert code(prepare, vault.stage(onnx_file()), SCALE) == "model.no_architecture"


# A contract beside the model ------------------------------------------------------------------


def test_a_contract_beside_a_model_is_part_of_the_artifact(
    vault: Vault, onnx_file: Callable[..., Path]
) -> None:
    bounded = [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "low": 0, "high": 1}]
    model = onnx_file()
    plain = vault.stage(model)
    staged = vault.stage(model, vault.contract(inputs=bounded))
    assert staged.paths == (CONTRACT_FILE, MODEL_FILE)
    other = vault.stage(model, vault.contract())
    assert len({plain.digest, staged.digest, other.digest}) == 3
    # Another file name makes no other artifact.
    renamed = vault.write("other.bin", model.read_bytes())
    assert vault.stage(renamed, vault.contract(inputs=bounded)).digest == staged.digest
    assert vault.load(staged).contract.ranges_declared
    # A contract that was put in afterwards is another artifact, and not what was permitted.
    permission = permit_staged(plain)
    assert code(load_files, staged.path, permission, now=NOW) == "model.wrong_digest"


def test_two_contracts_are_refused(vault: Vault, onnx_file: Callable[..., Path]) -> None:
    vault.write("m/model", onnx_file().read_bytes())
    vault.write(f"m/{CONTRACT_FILE}", vault.contract().read_bytes())
    assert code(vault.stage, vault.root / "m", vault.contract()) == "model.two_contracts"
    model = onnx.ModelProto.FromString(onnx_file().read_bytes())
    entry = model.metadata_props.add()
    entry.key, entry.value = "keepstone.contract", json.dumps(CONTRACT)
    path = vault.write("both", model.SerializeToString())
    assert code(prepare, vault.stage(path, vault.contract())) == "model.two_contracts"


def test_a_contract_that_does_not_fit_is_refused(
    vault: Vault, onnx_file: Callable[..., Path]
) -> None:
    wide = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    for changes in ({"inputs": wide}, {"architecture": SCALE}):
        staged = vault.stage(onnx_file(), vault.contract(**changes))
        assert code(prepare, staged) == "contract.mismatch"
    vault.write("folder/contract.json", b"{}")
    assert code(vault.stage, onnx_file(), vault.root / "folder") == "model.not_regular"


# ONNX with its weights in other files ----------------------------------------------------------


def outside(location: str, vault: Vault, onnx_file: Callable[..., Path]) -> tuple[bytes, bytes]:
    """The scaling model with its weight in `location`, and that file's bytes."""
    model = onnx.ModelProto.FromString(onnx_file().read_bytes())
    weight = model.graph.initializer[0]
    raw = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(raw)))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString(), raw


@pytest.mark.parametrize("folder", ["", "net/"])
def test_weights_come_out_of_the_verified_set(
    vault: Vault, onnx_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """Other weights lie wherever the process stands; the runtime takes those of the set."""
    data, raw = outside("data/w.bin", vault, onnx_file)
    vault.write(f"m/{folder}model.onnx", data)
    vault.write(f"m/{folder}data/w.bin", raw)
    evil = vault.write("evil/data/w.bin", np.full((1, 3), 666, np.float32).tobytes())
    monkeypatch.chdir(evil.parent.parent)
    loaded = vault.load(vault.stage(vault.root / "m"))
    assert loaded.runtime.predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "", "absent.bin", "./w.bin", "a//w.bin", "w.bin\x00"]
)
def test_weights_outside_of_the_set_are_refused(
    vault: Vault, onnx_file: Callable[..., Path], location: str
) -> None:
    data, raw = outside(location, vault, onnx_file)
    vault.write("m/model.onnx", data)
    vault.write("m/w.bin", raw)
    assert code(prepare, vault.stage(vault.root / "m")) == "model.external_data"


@pytest.mark.parametrize(("key", "value"), [("offset", "8"), ("length", "4"), ("offset", "-4")])
def test_weights_beyond_their_file_are_refused(
    vault: Vault, onnx_file: Callable[..., Path], key: str, value: str
) -> None:
    data, raw = outside("w.bin", vault, onnx_file)
    model = onnx.ModelProto.FromString(data)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    vault.write("m/model.onnx", model.SerializeToString())
    vault.write("m/w.bin", raw)
    staged = vault.stage(vault.root / "m")
    assert code(load_files, staged.path, permit_staged(staged), now=NOW) == "runtime.refused"


def test_a_swapped_sidecar_is_another_artifact(
    vault: Vault, onnx_file: Callable[..., Path]
) -> None:
    data, raw = outside("w.bin", vault, onnx_file)
    vault.write("m/model.onnx", data)
    sidecar = vault.write("m/w.bin", raw)
    permission = permit_staged(vault.stage(vault.root / "m"))
    sidecar.write_bytes(np.full((1, 3), 666, np.float32).tobytes())
    assert code(load_files, vault.root / "m", permission, now=NOW) == "model.wrong_digest"


# safetensors -----------------------------------------------------------------------------------


def safetensors(
    tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def weights(factor: float = 2.0) -> dict[str, tuple[str, list[int], bytes]]:
    return {
        "steps": ("I64", [1], np.array([7]).tobytes()),
        "weight": ("F32", [3], np.full(3, factor, np.float32).tobytes()),
    }


def test_safetensors_are_loaded_into_the_named_architecture(
    vault: Vault, need_module: Need
) -> None:
    need_module("torch")
    staged = vault.stage(vault.write("w", safetensors(weights())), vault.contract())
    loaded = vault.load(staged, SCALE)
    assert loaded.format == "safetensors"
    assert loaded.contract.architecture == SCALE
    assert loaded.runtime.predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]


def test_safetensors_may_carry_their_contract_and_come_in_shards(
    vault: Vault, need_module: Need
) -> None:
    need_module("torch")
    whole = weights()
    inside = {"keepstone.contract": json.dumps(CONTRACT)}
    vault.write("m/1", safetensors({"steps": whole["steps"]}, inside))
    vault.write("m/2", safetensors({"weight": whole["weight"]}))
    loaded = vault.load(vault.stage(vault.root / "m"), SCALE)
    assert loaded.runtime.predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]
    vault.write("m/2", safetensors({"weight": whole["weight"]}, inside))
    assert code(prepare, vault.stage(vault.root / "m"), SCALE) == "safetensors.malformed"
    vault.write("m/2", safetensors(whole))
    assert code(prepare, vault.stage(vault.root / "m"), SCALE) == "safetensors.malformed"


def raw(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw(b"{}", length=99),
        raw(b" {}"),
        raw(b"[]"),
        raw(b"{}", b"left over"),
        raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}', bytes(8)),
        raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)),
        raw(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}', bytes(4)),
        raw(b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', bytes(4)),
        raw(b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        raw(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}', bytes(1)),
        raw(b'{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', bytes(1)),
        raw(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}', bytes(1)),
        raw(b'{"a":1}'),
        raw(b'{"__metadata__":{"a":1}}'),
        raw(b'{"__metadata__":[]}'),
        raw(
            b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
            b'"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
            bytes(3),
        ),
        raw(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            bytes(1),
        ),
        raw(b'{"a":{"dtype":"U8","shape":' + b"[" * 3000 + b"]" * 3000 + b"}}"),
    ],
)
def test_a_header_that_does_not_account_for_every_byte_is_refused(data: bytes) -> None:
    assert code(read_header, memoryview(data)) == "safetensors.malformed"


@given(st.binary(max_size=300))
def test_any_header_ends_in_a_code(data: bytes) -> None:
    for candidate in (data, raw(b"{" + data), raw(data)):
        try:
            read_header(memoryview(candidate))
        except InputError as error:
            assert error.code == "safetensors.malformed"  # noqa: PT017


def test_what_the_library_writes_is_read_alike(need_module: Need, tmp_path: Path) -> None:
    torch = need_module("torch")
    library = need_module("safetensors.torch")
    tensors = {
        "half": torch.ones(3, dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "none": torch.empty((0, 4)),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
    }
    library.save_file(tensors, tmp_path / "w", metadata={"a": "b"})
    data = memoryview(bytearray((tmp_path / "w").read_bytes()))
    from keepstone.vault.load.torch import tensor_of

    header = read_header(data)
    assert header.metadata == {"a": "b"}
    found = {t.name: tensor_of(data[t.begin : t.end], t.dtype, t.shape) for t in header.tensors}
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    bad = memoryview(bytearray(b"\x02"))
    assert code(tensor_of, bad, "BOOL", (1,)) == "model.wrong_weights"


# PyTorch ---------------------------------------------------------------------------------------


def saved(torch: Any, value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def state(torch: Any, **changes: Any) -> dict[str, Any]:
    return {"weight": torch.full((3,), 2.0), "steps": torch.tensor([7])} | changes


def test_a_state_dict_is_loaded_into_the_named_architecture(
    vault: Vault, need_module: Need
) -> None:
    torch = need_module("torch")
    staged = vault.stage(vault.write("w.pt", saved(torch, state(torch))), vault.contract())
    loaded = vault.load(staged, SCALE)
    assert loaded.format == "torch"
    assert loaded.runtime.predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]
    read_only = np.frombuffer(ROW["x"].tobytes(), np.float32).reshape(1, 3)
    assert loaded.runtime.predict({"x": read_only})["y"].tolist() == [[2.0, 4.0, 6.0]]


def test_without_a_memfd_the_weights_are_read_from_memory(
    vault: Vault, need_module: Need, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = need_module("torch")
    monkeypatch.delattr(os, "memfd_create")
    staged = vault.stage(vault.write("w.pt", saved(torch, state(torch))), vault.contract())
    assert vault.load(staged, SCALE).runtime.predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]


def test_consent_is_asked_for_bound_and_never_taken_from_the_model(
    vault: Vault, need_module: Need
) -> None:
    """Nothing is imported before the consent, and another architecture is another permission."""
    torch = need_module("torch")
    from tests.vault.architectures import MADE

    MADE.clear()
    model = vault.write("w.pt", saved(torch, state(torch)))
    staged = vault.stage(model, vault.contract())
    assert code(prepare, staged) == "model.architecture_needed"
    assert code(prepare, staged, "os.system") == "contract.malformed"
    permission = permit_staged(staged, SCALE)
    several = SCALE.replace("Scale", "Several")
    refusal = code(load_files, staged.path, permission, now=NOW, architecture=several)
    assert refusal == "admission.wrong_contract"
    # Named by its publisher, it still needs the consent, and the same one.
    named = vault.stage(model, vault.contract(architecture=SCALE))
    assert code(prepare, named) == "model.architecture_needed"
    assert code(prepare, named, several) == "model.wrong_architecture"
    assert not MADE
    vault.load(named, SCALE)
    assert MADE


def test_without_a_contract_weights_are_not_served(vault: Vault, need_module: Need) -> None:
    torch = need_module("torch")
    data = saved(torch, state(torch))
    assert code(prepare, vault.stage(vault.write("w.pt", data)), SCALE) == "contract.missing"
    text = [{"name": "x", "datatype": "BYTES", "shape": [-1]}]
    staged = vault.stage(vault.write("w.pt", data), vault.contract(inputs=text))
    assert code(prepare, staged, SCALE) == "contract.unsupported_type"


@pytest.mark.parametrize(
    "change",
    [
        {"weight": None},
        {"more": 1.0},
        {"weight": [2.0, 2.0]},
        {"weight": 3},
    ],
    ids=str,
)
def test_weights_that_do_not_fit_exactly_are_refused(
    vault: Vault, need_module: Need, change: dict[str, Any]
) -> None:
    torch = need_module("torch")
    made = {k: v if v is None or isinstance(v, int) else torch.tensor(v) for k, v in change.items()}
    given = {k: v for k, v in state(torch, **made).items() if v is not None}
    staged = vault.stage(vault.write("w.pt", saved(torch, given)), vault.contract())
    permission = permit_staged(staged, SCALE)
    refusal = code(load_files, staged.path, permission, now=NOW, architecture=SCALE)
    assert refusal == "model.wrong_weights"


def test_weights_of_another_type_are_refused_not_converted(vault: Vault, need_module: Need) -> None:
    torch = need_module("torch")
    given = state(torch, weight=torch.full((3,), 2.0, dtype=torch.float64))
    staged = vault.stage(vault.write("w.pt", saved(torch, given)), vault.contract())
    permission = permit_staged(staged, SCALE)
    refusal = code(load_files, staged.path, permission, now=NOW, architecture=SCALE)
    assert refusal == "model.wrong_weights"


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_pickle_that_calls_something_is_refused_and_does_not_call_it(
    vault: Vault, need_module: Need
) -> None:
    """This fails if torch is asked to load without `weights_only`."""
    torch = need_module("torch")
    data = saved(torch, {"weight": Payload(vault.root / "owned")})
    staged = vault.stage(vault.write("w.pt", data), vault.contract())
    permission = permit_staged(staged, SCALE)
    refusal = code(load_files, staged.path, permission, now=NOW, architecture=SCALE)
    assert refusal == "runtime.refused"
    assert not (vault.root / "owned").exists()
    torch.load(io.BytesIO(data), weights_only=False)
    assert (vault.root / "owned").exists()


def archive(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in names:
            target.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["m/data.pkl", "m/code/a.py"], "model.not_weights"),
        (["m/data.pkl", "m/constants.pkl"], "model.not_weights"),
        (["m/constants.pkl"], "model.not_weights"),
        (["m/data.pkl", "archive_format"], "model.not_weights"),
        (["m/data.pkl", "m/models/model.json"], "model.not_weights"),
        (["m/data.pkl", "m/Data.PKL"], "model.ambiguous"),
    ],
)
def test_archives_with_programs_or_two_faces_are_refused(
    vault: Vault, names: list[str], expected: str
) -> None:
    staged = vault.stage(vault.write("w.pt", archive(names)), vault.contract())
    assert code(prepare, staged, SCALE) == expected


@pytest.mark.parametrize("name", ["Broken", "not_a_class", "absent", "MADE"])
def test_an_architecture_that_is_none_is_said(vault: Vault, need_module: Need, name: str) -> None:
    torch = need_module("torch")
    staged = vault.stage(vault.write("w.pt", saved(torch, state(torch))), vault.contract())
    architecture = f"tests.vault.architectures:{name}"
    permission = permit_staged(staged, architecture)
    refusal = code(load_files, staged.path, permission, now=NOW, architecture=architecture)
    assert refusal == "model.architecture_broken"


def test_an_answer_that_the_contract_does_not_promise_stays_here(
    vault: Vault, need_module: Need
) -> None:
    torch = need_module("torch")
    staged = vault.stage(vault.write("w.pt", saved(torch, state(torch))), vault.contract())
    wide = vault.load(staged, SCALE.replace("Scale", "Wide"))
    assert code(wide.runtime.predict, ROW) == "runtime.wrong_output"
    several = vault.load(staged, SCALE.replace("Scale", "Several"))
    assert several.runtime.predict(ROW)["y"].tolist() == [[2.0, 4.0, 6.0]]
    assert code(several.runtime.predict, {"x": np.ones((1, 9), np.float32)}) == "runtime.failed"


# skops -----------------------------------------------------------------------------------------


SKOPS = {
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 4]}],
    "outputs": [
        {"name": "predict", "datatype": "INT64", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
    ],
}


def iris(need_module: Need, name: str) -> Any:
    """A small fitted classifier of that name, and some rows with its answers."""
    need_module("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    made = {
        "forest": lambda: RandomForestClassifier(5, random_state=0),
        "boosting": lambda: GradientBoostingClassifier(n_estimators=3, random_state=0),
        "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "svm": lambda: make_pipeline(StandardScaler(), SVC()),
    }[name]()
    features, labels = load_iris(return_X_y=True)
    return made.fit(features, labels), features[::20]


@pytest.mark.parametrize("name", ["forest", "boosting", "pipeline"])
def test_estimators_are_loaded_and_answer_alike(vault: Vault, need_module: Need, name: str) -> None:
    skops = need_module("skops.io")
    model, rows = iris(need_module, name)
    staged = vault.stage(vault.write("m", skops.dumps(model)), vault.contract(**SKOPS))
    loaded = vault.load(staged)
    answer = loaded.runtime.predict({"x": rows})
    assert (answer["predict"] == model.predict(rows)).all()
    assert np.allclose(answer["predict_proba"], model.predict_proba(rows))
    assert code(loaded.runtime.predict, {"x": rows[:, :2]}) == "runtime.failed"


def test_a_contract_names_methods_that_the_estimator_has(vault: Vault, need_module: Need) -> None:
    skops = need_module("skops.io")
    model, _ = iris(need_module, "svm")
    data = vault.write("m", skops.dumps(model))
    odd = [{"name": "fit", "datatype": "FP64", "shape": [-1]}]
    refusal = code(prepare, vault.stage(data, vault.contract(**(SKOPS | {"outputs": odd}))))
    assert refusal == "contract.mismatch"
    staged = vault.stage(data, vault.contract(**SKOPS))
    assert code(load_files, staged.path, permit_staged(staged), now=NOW) == "runtime.refused"
    assert code(prepare, vault.stage(data)) == "contract.missing"


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The skops file with its schema changed."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            out.writestr(name, content)
    return target.getvalue()


def node(loader: str, module: str, name: str) -> dict[str, Any]:
    return {"__loader__": loader, "__module__": module, "__class__": name}


@pytest.mark.parametrize(
    "evil",
    [
        node("FunctionNode", "os", "system"),
        node("TypeNode", "subprocess", "Popen"),
        node("ObjectNode", "tests.vault.architectures", "Scale"),
        node("MethodNode", "sklearn.svm._classes", "SVC"),
        node("PartialNode", "functools", "partial"),
        node("OperatorFuncNode", "operator", "methodcaller"),
        node("ConstructorFromReduceNode", "sklearn.svm._classes", "SVC"),
        node("ObjectNode", "sklearn.feature_extraction.text", "CountVectorizer"),
        node("ObjectNode", "sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
        node("FunctionNode", "sklearn.svm._classes", "SVC"),
        node("NdArrayNode", "numpy", "memmap"),
    ],
    ids=lambda evil: f"{evil['__loader__']}-{evil['__class__']}",
)
def test_what_the_list_does_not_hold_is_refused_wherever_it_hides(
    need_module: Need, evil: dict[str, Any]
) -> None:
    """By kind and type together: a harmless type under another kind of node is refused, too."""
    skops = need_module("skops.io")
    model, _ = iris(need_module, "pipeline")
    data = skops.dumps(model)
    assert read_types(memoryview(data))
    hidden = changed(data, lambda schema: schema.update(deep=[{"content": [evil]}]))
    assert code(read_types, memoryview(hidden)) == "model.untrusted_type"


def test_the_library_trusts_what_our_list_does_not(need_module: Need) -> None:
    """Why the list is our own: this is what the library would build without being asked."""
    skops = need_module("skops.io")
    need_module("sklearn")
    from sklearn.feature_extraction.text import CountVectorizer

    data = skops.dumps(CountVectorizer(input="filename"))
    assert skops.get_untrusted_types(data=data) == []
    assert code(read_types, memoryview(data)) == "model.untrusted_type"


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04",
        archive(["schema.json"]),
        archive(["schema.json", "Schema.JSON"]),
        archive(["other"]),
    ],
)
def test_a_skops_file_without_a_schema_is_refused(data: bytes) -> None:
    assert code(read_types, memoryview(data)) == "skops.malformed"


def test_a_skops_file_that_is_not_whole_or_too_large_is_refused(
    vault: Vault, need_module: Need, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = need_module("skops.io")
    model, _ = iris(need_module, "pipeline")
    whole = zipfile.ZipFile(io.BytesIO(library.dumps(model)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("schema.json", whole.read("schema.json"))
    staged = vault.stage(vault.write("m", buffer.getvalue()), vault.contract(**SKOPS))
    assert code(load_files, staged.path, permit_staged(staged), now=NOW) == "runtime.refused"
    for limit in ("_MAX_SCHEMA", "_MAX_UNPACKED"):
        monkeypatch.setattr(skops_room, limit, 10)
        assert code(read_types, memoryview(buffer.getvalue())) == "skops.malformed"
        monkeypatch.undo()


def test_a_node_without_a_type_is_refused(need_module: Need) -> None:
    skops = need_module("skops.io")
    model, _ = iris(need_module, "pipeline")
    data = changed(skops.dumps(model), lambda s: s.update(deep={"__loader__": "JsonNode"}))
    assert code(read_types, memoryview(data)) == "skops.malformed"


@pytest.mark.parametrize("attack", ["beyond", "circle", "feature"])
def test_a_tree_that_points_outside_of_itself_is_refused(
    vault: Vault, need_module: Need, attack: str
) -> None:
    """scikit-learn would follow the index; this fails if the trees are not looked at."""
    skops = need_module("skops.io")
    model, _ = iris(need_module, "forest")
    tree = model.estimators_[2].tree_
    saved_state = tree.__getstate__()
    nodes = saved_state["nodes"].copy()
    inner = int(np.flatnonzero(nodes["left_child"] != -1)[-1])
    nodes[inner][
        {"beyond": "left_child", "circle": "right_child", "feature": "feature"}[attack]
    ] = {
        "beyond": 1 << 40,
        "circle": 0,
        "feature": 999,
    }[attack]
    tree.__setstate__({**saved_state, "nodes": nodes})
    staged = vault.stage(vault.write("m", skops.dumps(model)), vault.contract(**SKOPS))
    assert code(load_files, staged.path, permit_staged(staged), now=NOW) == "model.broken_tree"


def test_the_list_is_what_the_tool_writes_and_holds_no_surprise(need_module: Need) -> None:
    need_module("sklearn")
    from tools.skops_types import lines

    assert set(lines()) == trusted_nodes()
    roots = {line.split(" ")[1].split(".")[0] for line in trusted_nodes()}
    assert roots == {"sklearn", "numpy", "scipy", "builtins"}
    kinds = {line.split(" ")[0] for line in trusted_nodes()}
    assert not kinds & {"MethodNode", "PartialNode", "OperatorFuncNode", "ReduceNode"}


# XGBoost and LightGBM --------------------------------------------------------------------------


def features() -> tuple[Any, Any]:
    made = np.random.default_rng(0)
    rows = made.normal(size=(200, 4)).astype(np.float32)
    return rows, (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0)


def boosted(xgboost: Any, form: str, classes: int = 3, **attributes: str) -> bytes:
    rows, labels = features()
    settings = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    if classes == 1:
        settings = {"objective": "reg:squarederror", "nthread": 1}
    data = xgboost.DMatrix(rows, labels, feature_names=list("abcd"))
    booster = xgboost.train(settings, data, 3)
    booster.set_attr(**attributes)
    return bytes(booster.save_raw(form))


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_xgboost_says_what_it_takes(vault: Vault, need_module: Need, form: str) -> None:
    xgboost = need_module("xgboost")
    data = boosted(xgboost, form)
    loaded = vault.load(vault.stage(vault.write("m", data)))
    assert loaded.format == "xgboost"
    (taken,), (given,) = loaded.contract.inputs, loaded.contract.outputs
    assert (taken.shape, taken.features, given.shape) == ((-1, 4), tuple("abcd"), (-1, 3))
    rows, _ = features()
    booster = xgboost.Booster()
    booster.load_model(bytearray(data))
    wanted = booster.inplace_predict(rows, validate_features=False)
    assert np.array_equal(loaded.runtime.predict({"input": rows})["prediction"], wanted)
    assert code(loaded.runtime.predict, {"input": rows[:, :2]}) == "runtime.failed"


def test_a_booster_carries_its_contract_as_an_attribute(vault: Vault, need_module: Need) -> None:
    xgboost = need_module("xgboost")
    shape = {"name": "input", "datatype": "FP32", "shape": [-1, 4]}
    out = {"name": "prediction", "datatype": "FP32", "shape": [-1]}
    said = CONTRACT | {"inputs": [shape | {"low": -9, "high": 9}], "outputs": [out]}
    inside = {"keepstone.contract": json.dumps(said)}
    data = boosted(xgboost, "ubj", 1, **inside)
    assert vault.load(vault.stage(vault.write("m", data))).contract.ranges_declared
    said["inputs"] = [shape | {"features": list("dcba")}]
    wrong = boosted(xgboost, "ubj", 1, **{"keepstone.contract": json.dumps(said)})
    assert code(prepare, vault.stage(vault.write("m", wrong))) == "contract.mismatch"


def test_lightgbm_says_what_it_takes(vault: Vault, need_module: Need) -> None:
    lightgbm = need_module("lightgbm")
    rows, labels = features()
    settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(rows, labels, feature_name=list("abcd"))
    booster = lightgbm.train(settings, data, 3)
    text = booster.model_to_string().encode()
    loaded = vault.load(vault.stage(vault.write("m", text)))
    assert loaded.format == "lightgbm"
    (taken,), (given,) = loaded.contract.inputs, loaded.contract.outputs
    assert (taken.shape, taken.features, given.shape) == ((-1, 4), tuple("abcd"), (-1, 3))
    wide = rows.astype(np.float64)
    wanted = booster.predict(wide, num_threads=1)
    assert np.array_equal(loaded.runtime.predict({"input": wide})["prediction"], wanted)
    assert code(loaded.runtime.predict, {"input": wide[:, :2]}) == "runtime.failed"
    # Cut in the middle of a tree, the library ends its process: the child's, not ours.
    for length in (40, 300, len(text) // 3, len(text) // 2):
        staged = vault.stage(vault.write("m", text[:length]))
        assert code(prepare, staged) == "runtime.refused"


def test_a_file_that_merely_begins_with_a_version_is_no_model() -> None:
    """As tokenizers do, which lie beside many weights."""
    assert format_of(memoryview(b'{"version": "1.0", "truncation": null}')) is None
    assert format_of(memoryview(b'{"version":[2,1,0],"learner":{}}')) == "xgboost"


def test_a_broken_booster_breaks_a_child_and_not_this_process(
    vault: Vault, need_module: Need
) -> None:
    xgboost = need_module("xgboost")
    whole = boosted(xgboost, "json")
    cut = whole[: len(whole) // 2]
    for data in (b'{"learner":{', b'{"learner":{}}', cut, b"{L" + bytes(7) + b"\x07learner{"):
        assert code(prepare, vault.stage(vault.write("m", data))) == "runtime.refused"


@pytest.mark.parametrize("child", ["print('[]')", "print('x')", "import time; time.sleep(60)"])
def test_a_child_that_says_nothing_useful_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str
) -> None:
    (tmp_path / "child.py").write_text(child)
    monkeypatch.setattr(rehearsal, "_CHILD", tmp_path / "child.py")
    monkeypatch.setattr(rehearsal, "TIMEOUT_S", 5)
    assert code(rehearsal.rehearse, "xgboost", memoryview(b"")) == "runtime.refused"


def test_a_model_that_does_not_say_its_width_is_refused(vault: Vault) -> None:
    staged = vault.stage(vault.write("m", b"x"))
    for seen in ({}, {"features": 3, "names": [], "shape": [2]}):
        assert code(rehearsal.tree_contract, seen, staged, DType.FP32) == "runtime.refused"


# Extras ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "skops", "xgboost", "lightgbm"])
def test_a_missing_extra_is_named(vault: Vault, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import sys

    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, f"{name}.io", None)
    if name == "torch":
        data = safetensors(weights())
    elif name == "skops":
        empty = json.dumps(node("JsonNode", "builtins", "str")).encode()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as target:
            target.writestr("schema.json", empty)
        data = buffer.getvalue()
    else:
        data = {"xgboost": b'{"learner":{}}', "lightgbm": b"tree\nversion=v4\n"}[name]
    changes = SKOPS if name == "skops" else {}
    staged = vault.stage(vault.write("m", data), vault.contract(**changes))
    architecture = SCALE if name == "torch" else None
    with pytest.raises(OperationalError) as caught:
        prepare(staged, architecture)[1].start()
    assert caught.value.code == "runtime.missing"
    assert f"keepstone[{name}]" in caught.value.next_step


def test_the_architecture_is_part_of_the_contracts_bytes() -> None:
    plain = parse_contract(json.dumps(CONTRACT))
    bound = parse_contract(json.dumps(CONTRACT | {"architecture": SCALE}))
    assert plain.digest != bound.digest
    assert parse_contract(bound.to_json()) == bound
    assert isinstance(bound, ModelContract)
    assert b"architecture" not in plain.to_json()
    for wrong in ("a", "a:b:c", "a.b", ":b", "a:", "a b:c", "1a:b", "a" * 300 + ":b", 7):
        refusal = code(parse_contract, json.dumps(CONTRACT | {"architecture": wrong}))
        assert refusal == "contract.malformed"


def test_a_permission_for_another_contract_starts_nothing(vault: Vault, need_module: Need) -> None:
    torch = need_module("torch")
    from tests.vault.architectures import MADE

    staged = vault.stage(vault.write("w.pt", saved(torch, state(torch))), vault.contract())
    MADE.clear()
    permission = permit(staged.digest, Digest.of(b"another"))
    with pytest.raises(VerificationError) as caught:
        load_files(staged.path, permission, now=NOW, architecture=SCALE)
    assert caught.value.code == "admission.wrong_contract"
    assert not MADE
