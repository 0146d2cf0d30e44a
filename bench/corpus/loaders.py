"""What opens the files of the corpus: the real loaders, or what their users do by hand.

Each takes a path and imports what it needs; `none` opens nothing. Those named `by hand` stand in
for programs that are not here, and do what those do first with such a file.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.corpus.case import need

Loader = Callable[[Path], object]


def _pickle(path: Path) -> object:
    with path.open("rb") as file:
        return pickle.load(file)


def _each_pickle(path: Path) -> object:
    found = []
    with path.open("rb") as file:
        while file.peek(1):
            found.append(pickle.load(file))
    return found


def _pickle_after_zeros(path: Path) -> object:
    data = path.read_bytes()
    stream = io.BytesIO(data)
    pickle.load(stream)
    return pickle.loads(data[stream.tell() :].lstrip(b"\0"))


def _pickle_with_extension(path: Path) -> object:
    need("copyreg").add_extension("posix", "system", 7)
    need("copyreg").add_extension("os", "system", 8)
    need("copyreg")._inverted_registry[7] = ("os", "system")
    return _pickle(path)


class _Persistent(pickle.Unpickler):
    def persistent_load(self, pid: object) -> object:
        return pid


def _pickle_with_ids(path: Path) -> object:
    with path.open("rb") as file:
        return _Persistent(file).load()


def _transform(path: Path) -> object:
    from bench.corpus.case import COMMAND

    model: Any = _pickle(path)
    if hasattr(model, "build_tokenizer"):
        return model.build_tokenizer()(COMMAND)
    return model.transform(COMMAND)


def _numpy(path: Path) -> object:
    found = need("numpy").load(path, allow_pickle=True)
    return {name: found[name] for name in found.files} if hasattr(found, "files") else found


def _torch(path: Path) -> object:
    return need("torch").load(path, weights_only=False)


def _torch_restricted(path: Path) -> object:
    return need("torch").load(path, weights_only=True)


def _zip_pickle(path: Path) -> object:
    """Unpickle what Python's zipfile takes for data.pkl, as many tools around torch do."""
    with need("zipfile").ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith((".pkl", ".pk"))]
        return _Persistent(io.BytesIO(archive.read(names[-1]))).load()


def _torchscript(path: Path) -> object:
    return need("torch").jit.load(path)


def _torch_export(path: Path) -> object:
    return need("torch").export.load(path)


def _yaml(path: Path) -> object:
    return need("yaml").unsafe_load(path.read_text("utf-8"))


def _built_by_hand(path: Path) -> object:
    text = path.read_text("utf-8")
    if path.suffix == ".toml":
        import tomllib

        found: Any = tomllib.loads(text)
    else:
        found = json.loads(text) if path.suffix == ".json" else need("yaml").safe_load(text)
    return [_build(part) for part in _targets(found)]


def _build(node: Any) -> Any:
    """Call what a target names, as Hydra did before it had a list of what not to call."""
    if isinstance(node, list):
        return [_build(part) for part in node]
    if not isinstance(node, dict):
        return node
    given = {key: _build(value) for key, value in node.items()}
    target = given.pop("_target_", None)
    if target is None:
        return given
    found = need("pydoc").locate(target)
    arguments = given.pop("_args_", [])
    if given.pop("_partial_", False):
        return functools.partial(found, *arguments, **given)
    return found(*arguments, **given)


def _targets(node: Any) -> Iterator[Any]:
    """The outermost parts that name what builds them."""
    if isinstance(node, dict) and "_target_" in node:
        yield node
    elif isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _targets(part)


def _dictionary_config(path: Path) -> object:
    need("logging.config").dictConfig(json.loads(path.read_text("utf-8")))
    return None


def _xml(path: Path) -> object:
    sax = need("xml.sax")
    parser = sax.make_parser()
    parser.setFeature(sax.handler.feature_external_ges, True)
    parser.setContentHandler(sax.handler.ContentHandler())
    return parser.parse(str(path))


def _keras(path: Path) -> object:
    return need("keras").saving.load_model(path, safe_mode=False, compile=False)


def _hdf5(path: Path) -> object:
    with need("h5py").File(path, "r") as file:
        return dict(file.attrs)


def _hdf5_by_hand(path: Path) -> object:
    """Follow every Lambda of the configuration, as Keras 2 did without a question."""
    import base64
    import marshal
    import types

    with need("h5py").File(path, "r") as file:
        config = json.loads(file.attrs["model_config"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Lambda" and isinstance(layer["config"]["function"], list):
            code = marshal.loads(base64.b64decode(layer["config"]["function"][0]))
            types.FunctionType(code, globals())(None)
    return config


def _onnx(path: Path) -> object:
    return need("onnx").load(str(path))


def _onnxruntime(path: Path) -> object:
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _safetensors(path: Path) -> object:
    return need("safetensors.numpy").load_file(path)


def _gguf(path: Path) -> object:
    """Render the chat template without a sandbox, as early bindings of llama.cpp did."""
    strings = dict(_gguf_strings(path.read_bytes()))
    for key, template in strings.items():
        if key.startswith("tokenizer.chat_template"):
            _render(template)
    return strings


def _gguf_strings(data: bytes) -> Iterator[tuple[str, str]]:
    """The leading key-value pairs whose values are strings or 32-bit numbers."""
    _, count = struct.unpack_from("<QQ", data, 8)
    at = 24
    for _ in range(min(count, 64)):
        key, at = _gguf_string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        if kind == 8:
            value, at = _gguf_string(data, at)
            yield key, value
        elif kind in (4, 5, 6):
            at += 4
        else:
            return


def _gguf_string(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length].decode("utf-8"), at + 8 + length


def _render(template: str) -> str:
    environment = need("jinja2").Environment(extensions=["jinja2.ext.loopcontrols"])
    words = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello"}]
    return str(
        environment.from_string(template).render(
            messages=words, bos_token="<s>", eos_token="</s>", add_generation_prompt=True
        )
    )


def _tokenizer(path: Path) -> object:
    """Render a folder's chat templates without a sandbox."""
    for file in sorted(path.rglob("*")):
        if file.name in ("tokenizer_config.json", "processor_config.json", "chat_template.json"):
            found = json.loads(file.read_text("utf-8")).get("chat_template", "")
            templates = found if isinstance(found, list) else [{"template": found}]
            for template in templates:
                _render(template["template"])
        elif file.suffix == ".jinja":
            _render(file.read_text("utf-8"))
    return None


def _remote_code(path: Path) -> object:
    """Import what a folder's `auto_map` names, as `trust_remote_code` does."""
    import sys

    for file in sorted(path.rglob("*.json")):
        found = json.loads(file.read_text("utf-8"))
        for target in (found.get("auto_map") or {}).values() if isinstance(found, dict) else ():
            named = target[0] if isinstance(target, list) else target
            module = named.rpartition("--")[2].rpartition(".")[0]
            sys.path.insert(0, str(path))
            need(module)
    return None


def _mlflow(path: Path) -> object:
    """Load the python_function flavour as MLflow does: its code paths, its loader, its data."""
    import sys

    found = need("yaml").safe_load((path / "MLmodel").read_text("utf-8"))
    flavour = found["flavors"]["python_function"]
    if "code" in flavour:
        sys.path.insert(0, str(path / flavour["code"]))
    if flavour["loader_module"] == "mlflow.pyfunc.model":
        return need("cloudpickle").loads((path / flavour["python_model"]).read_bytes())
    if flavour["loader_module"].startswith("mlflow."):
        return _pickle(path / flavour["model_path"])
    loaded = need(flavour["loader_module"])
    return loaded._load_pyfunc(str(path / flavour.get("data", "")))


def _notebook(path: Path) -> object:
    """Run every cell, as `Run All` does."""
    found = json.loads(path.read_text("utf-8"))
    space: dict[str, Any] = {}
    for cell in found["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            continue
        if source.startswith(("!", "%%bash", "%%sh", "%%!", "%sx", "%system")):
            need("os").system(source.lstrip("!%").removeprefix("bash\n"))
        elif not source.startswith("%"):
            exec(source, space)
    return None


def _untar(path: Path) -> object:
    with need("tarfile").open(path) as archive:
        archive.extractall("unpacked")
    return None


def _unzip(path: Path) -> object:
    """Write each member where its name says, as those do who do not use `extractall`."""
    with need("zipfile").ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with open(Path("unpacked") / info.filename, "wb") as file:
                    file.write(archive.read(info))
    return None


def _un7z(path: Path) -> object:
    with need("py7zr").SevenZipFile(path) as archive:
        archive.extractall("unpacked")
    return None


def _inflate(path: Path) -> object:
    """Unpack all of an archive, or a compressed stream, into memory."""
    data = path.read_bytes()
    if data[:2] == b"PK":
        with need("zipfile").ZipFile(path) as archive:
            return [archive.read(info) for info in archive.infolist()]
    module = {b"\x1f\x8b": "gzip", b"BZ": "bz2", b"\xfd7": "lzma"}[data[:2]]
    return need(module).decompress(data)


def _unpack(path: Path) -> object:
    """Unpack archives in archives, and unpickle what lies at the bottom."""
    return _deeper(path.read_bytes(), 12)


def _deeper(data: bytes, left: int) -> object:
    if left == 0:
        raise ValueError("too deep")
    stream = io.BytesIO(data)
    if data[:2] == b"PK":
        archive = need("zipfile").ZipFile(stream)
        return [_deeper(archive.read(name), left - 1) for name in archive.namelist()]
    if data[:6] == b"7z\xbc\xaf\x27\x1c":
        need("py7zr").SevenZipFile(stream).extractall("unpacked")
        written = [file for file in Path("unpacked").rglob("*") if file.is_file()]
        return [_deeper(file.read_bytes(), left - 1) for file in written]
    if data[257:262] == b"ustar":
        tar = need("tarfile").open(fileobj=stream)
        files = [tar.extractfile(member) for member in tar.getmembers()]
        return [_deeper(file.read(), left - 1) for file in files if file is not None]
    for mark, module in ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\xfd7zXZ", "lzma")):
        if data.startswith(mark):
            return _deeper(need(module).decompress(data), left - 1)
    return pickle.loads(data) if data[:1] == b"\x80" else None


def _nemo(path: Path) -> object:
    """Build what the configuration in the archive names."""
    with need("tarfile").open(path) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if member.name.endswith((".yaml", ".yml")) and file is not None:
                config = need("yaml").safe_load(file.read())
                for part in _targets(config):
                    _build(part)
    return None


def _mar(path: Path) -> object:
    """Run the handler that the manifest of a torch archive names."""
    with need("zipfile").ZipFile(path) as archive:
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        exec(compile(archive.read(manifest["model"]["handler"]), "handler", "exec"), {})
    return None


def _source(path: Path) -> object:
    exec(compile(path.read_text("utf-8"), str(path), "exec"), {})
    return None


def _xgboost(path: Path) -> object:
    booster = need("xgboost").Booster()
    booster.load_model(str(path))
    return booster


def _lightgbm(path: Path) -> object:
    return need("lightgbm").Booster(model_file=str(path))


def _catboost(path: Path) -> object:
    model = need("catboost").CatBoost()
    model.load_model(str(path))
    return model


def _json(path: Path) -> object:
    return json.loads(path.read_text("utf-8"))


def _by(module: str, function: str) -> Loader:
    return lambda path: getattr(need(module), function)(path)


def _opened(module: str) -> Loader:
    def load(path: Path) -> object:
        with path.open("rb") as file:
            return need(module).load(file)

    return load


LOADERS: dict[str, Loader] = {
    "pickle.load": _pickle,
    "pickle.load each": _each_pickle,
    "pickle.load after zeros": _pickle_after_zeros,
    "pickle.load with extension": _pickle_with_extension,
    "pickle.load with persistent ids": _pickle_with_ids,
    "sklearn.transform": _transform,
    "cloudpickle.load": _opened("cloudpickle"),
    "dill.load": _opened("dill"),
    "joblib.load": _by("joblib", "load"),
    "skops.load": _by("skops.io", "load"),
    "pandas.read_pickle": _by("pandas", "read_pickle"),
    "pandas.read_csv": _by("pandas", "read_csv"),
    "pandas.read_parquet": _by("pandas", "read_parquet"),
    "scipy.load_npz": _by("scipy.sparse", "load_npz"),
    "numpy.load": _numpy,
    "torch.load": _torch,
    "torch.load restricted": _torch_restricted,
    "zip pickle by hand": _zip_pickle,
    "torch.jit.load": _torchscript,
    "torch.export.load": _torch_export,
    "yaml.unsafe_load": _yaml,
    "targets by hand": _built_by_hand,
    "logging.dictConfig": _dictionary_config,
    "xml.sax": _xml,
    "keras.load_model": _keras,
    "h5py": _hdf5,
    "keras 2 by hand": _hdf5_by_hand,
    "onnx.load": _onnx,
    "onnxruntime": _onnxruntime,
    "safetensors": _safetensors,
    "gguf by hand": _gguf,
    "chat template by hand": _tokenizer,
    "remote code by hand": _remote_code,
    "mlflow by hand": _mlflow,
    "notebook by hand": _notebook,
    "tarfile.extractall": _untar,
    "zip by hand": _unzip,
    "py7zr.extractall": _un7z,
    "inflate": _inflate,
    "unpack and unpickle": _unpack,
    "nemo by hand": _nemo,
    "mar by hand": _mar,
    "python": _source,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "json": _json,
}
