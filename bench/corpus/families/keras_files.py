"""Keras: configuration that names code. Version 3's archive and the older HDF5.

A Lambda layer holds byte code in base64; an object of the configuration names a module and a
class, and anything that imports will do. Source: keras/src/saving/serialization_lib.py,
keras/src/saving/saving_lib.py; CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2025-9905.
"""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.corpus.case import CODE, COMMAND, EXPRESSION, Case, fail, good, need, zipped
from bench.corpus.families.numpy_files import OBJECTS, framed
from bench.corpus.opcodes import pickled, shell

_LOADER, _OLD = "keras.load_model", "keras 2 by hand"


def _object(
    module: str, name: str, config: object, registered: str | None = None
) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": name,
        "config": config,
        "registered_name": registered,
    }


def _input() -> dict[str, Any]:
    return _object(
        "keras.layers",
        "InputLayer",
        {
            "batch_shape": [None, 4],
            "dtype": "float32",
            "sparse": False,
            "name": "input",
        },
    )


def _dense(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": "dense",
        "trainable": True,
        "dtype": "float32",
        "units": 3,
        "activation": "linear",
        "use_bias": True,
        "kernel_initializer": _object("keras.initializers", "GlorotUniform", {"seed": None}),
        "bias_initializer": _object("keras.initializers", "Zeros", {}),
        "kernel_regularizer": None,
        "bias_regularizer": None,
        "kernel_constraint": None,
        "bias_constraint": None,
    }
    layer = _object("keras.layers", "Dense", config | changes)
    layer["build_config"] = {"input_shape": [None, 4]}
    return layer


def _model(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    model = _object(
        "keras",
        "Sequential",
        {
            "name": "model",
            "trainable": True,
            "dtype": "float32",
            "layers": [_input(), *layers],
            "build_input_shape": [None, 4],
        },
    )
    return model | {"build_config": {"input_shape": [None, 4]}} | more


def _weights() -> bytes:
    h5py, numpy = need("h5py"), need("numpy")
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.create_dataset("0", data=numpy.zeros((4, 3), "float32"))
        group.create_dataset("1", data=numpy.zeros(3, "float32"))
    return out.getvalue()


def _archive(model: object, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    config = model if isinstance(model, bytes) else json.dumps(model).encode()
    metadata = json.dumps({"keras_version": "3.10.0", "date_saved": "2026-01-01@00:00:00"})
    return zipped(
        [
            ("metadata.json", metadata.encode()),
            ("config.json", config),
            ("model.weights.h5", _weights()),
            *more,
        ],
        method,
    )


def _code() -> list[Any]:
    space: dict[str, Any] = {}
    exec(f"def function(x):\n    exec({CODE!r})\n    return x\n", space)
    raw = marshal.dumps(space["function"].__code__)
    return [base64.b64encode(raw).decode("ascii") + "\n", None, None]


def _lambda(**changes: Any) -> dict[str, Any]:
    code, defaults, closure = _code()
    function = {
        "class_name": "__lambda__",
        "config": {"code": code, "defaults": defaults, "closure": closure},
    }
    config = {
        "name": "lambda",
        "trainable": True,
        "dtype": "float32",
        "function": function,
        "output_shape": [4],
        "arguments": {},
    }
    return _object("keras.layers", "Lambda", config | changes)


def _honest(seed: int) -> Iterator[Case]:
    yield good("dense.keras", _archive(_model(_dense())), _LOADER)
    yield good(
        "dense_deflated.keras", _archive(_model(_dense()), method=zipfile.ZIP_DEFLATED), _LOADER
    )
    relu = _dense(
        activation="relu", kernel_regularizer=_object("keras.regularizers", "L2", {"l2": 0.01})
    )
    yield good("dense_relu.keras", _archive(_model(relu)), _LOADER)
    compiled = _model(
        _dense(),
        compile_config={
            "optimizer": "adam",
            "loss": "mse",
            "loss_weights": None,
            "metrics": ["mae"],
            "weighted_metrics": None,
            "run_eagerly": False,
            "steps_per_execution": 1,
            "jit_compile": False,
        },
    )
    yield good("compiled.keras", _archive(compiled), _LOADER)
    layers = [
        _object(
            "keras.layers",
            "Dropout",
            {
                "name": "dropout",
                "trainable": True,
                "dtype": "float32",
                "rate": 0.5,
                "seed": None,
                "noise_shape": None,
            },
        ),
        _object(
            "keras.layers",
            "Activation",
            {"name": "activation", "trainable": True, "dtype": "float32", "activation": "softmax"},
        ),
        _object(
            "keras.layers",
            "Reshape",
            {"name": "reshape", "trainable": True, "dtype": "float32", "target_shape": [3, 1]},
        ),
        _object(
            "keras.layers",
            "Flatten",
            {
                "name": "flatten",
                "trainable": True,
                "dtype": "float32",
                "data_format": "channels_last",
            },
        ),
    ]
    yield good("many_layers.keras", _archive(_model(_dense(), *layers)), _LOADER)
    yield good("weights.weights.h5", _weights(), "h5py")


def _real(seed: int) -> Iterator[Case]:
    """Files that Keras itself writes, where it is installed with a backend."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = need("keras")
    keras.utils.set_random_seed(seed)
    functional_in = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="relu")(functional_in)
    models = {
        "sequential": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]),
        "functional": keras.Model(functional_in, keras.layers.Dense(1)(hidden)),
        "convolution": keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(2, 3),
                keras.layers.BatchNormalization(),
                keras.layers.GlobalAveragePooling2D(),
            ]
        ),
        "recurrent": keras.Sequential([keras.Input((5, 2)), keras.layers.LSTM(3)]),
        "embedding": keras.Sequential(
            [keras.Input((5,)), keras.layers.Embedding(10, 2), keras.layers.Flatten()]
        ),
    }
    for slug, model in models.items():
        yield good(f"real_{slug}.keras", _redated(_saved(model, "keras")), _LOADER)
        if slug in ("sequential", "functional", "convolution"):
            yield good(f"real_{slug}.h5", _saved(model, "h5"), "h5py")


def _saved(model: Any, ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"model.{ending}"
        model.save(path)
        return path.read_bytes()


def _redated(data: bytes) -> bytes:
    """The same archive with one fixed date, inside and out."""
    members = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            content = archive.read(info)
            if info.filename == "metadata.json":
                content = json.dumps(
                    json.loads(content) | {"date_saved": "2026-01-01@00:00:00"}
                ).encode()
            members.append((info.filename, content))
    return zipped(members)


def _bad(seed: int) -> Iterator[Case]:
    config = json.dumps(_model(_dense()))
    calls = "Calls what the configuration names"
    references = {
        "lambda": _model(_lambda(), _dense()),
        "lambda_last": _model(_dense(), _lambda()),
        "lambda_raw": _model(_lambda(function=_code())),
        "lambda_output_shape": _model(_lambda(output_shape=_lambda()["config"]["function"])),
        "lambda_as_activation": _model(_dense(activation=_lambda()["config"]["function"])),
        "lambda_in_regularizer": _model(_dense(kernel_regularizer=_lambda()["config"]["function"])),
        "lambda_nested": _model(
            _object("keras", "Sequential", {"name": "inner", "layers": [_input(), _lambda()]})
        ),
        "lambda_by_name": _model(_lambda(function=_object("builtins", "function", "system", "os"))),
        "function_system": _model(_dense(activation=_object("os", "function", "system", "system"))),
        "class_popen": _model(_object("subprocess", "Popen", {"args": ["true"]})),
        "class_run": _model(_dense(), _object("subprocess", "run", {"args": ["true"]})),
        "class_custom": _model(_object("evil_package.layers", "Layer", {"name": "x"})),
        "class_numpy_load": _model(_object("numpy", "load", {"file": "x", "allow_pickle": True})),
        "in_compile": _model(
            _dense(),
            compile_config={
                "optimizer": _object("os", "system", {"command": COMMAND}),
                "loss": "mse",
            },
        ),
        "loss_function": _model(
            _dense(),
            compile_config={
                "optimizer": "sgd",
                "loss": _object("builtins", "function", "eval", "eval"),
            },
        ),
        "in_initializer": _model(
            _dense(kernel_initializer=_object("builtins", "eval", {"source": EXPRESSION}))
        ),
        "root": _object("os", "system", {"command": COMMAND}),
        "root_get_file": _object("keras.utils", "get_file", {"fname": "x", "origin": "file:///x"}),
        "internal_module": _model(
            _object("keras.src.utils.file_utils", "get_file", {"fname": "x", "origin": "file:///x"})
        ),
        "load_model": _model(_object("keras.saving", "load_model", {"filepath": "other.keras"})),
        "run_eagerly_function": _model(_dense(), build_config=_object("os", "system", {})),
        "torch_wrapper": _model(
            _object(
                "keras.layers",
                "TorchModuleWrapper",
                {"module": base64.b64encode(pickled(shell())).decode("ascii"), "name": "wrapped"},
            )
        ),
        "tfsm_layer": _model(_object("keras.layers", "TFSMLayer", {"filepath": "/tmp/x"})),
        "string_lookup_file": _model(
            _object(
                "keras.layers",
                "StringLookup",
                {"vocabulary": "../corpus-canary.txt", "name": "lookup"},
            )
        ),
        "registered_custom": _model(_object("builtins", "Layer", {"name": "x"}, "Custom>Layer")),
        "shared_object": _model(
            _dense() | {"shared_object_id": 1},
            {
                "class_name": "os>system",
                "config": {},
                "module": None,
                "registered_name": "os>system",
            },
        ),
        "jax_layer": _model(_object("keras.layers", "JaxLayer", {"call_fn": _code(), "name": "x"})),
    }
    for slug, model in references.items():
        yield fail(f"{slug}.keras", _archive(model), f"{calls}: {slug}.", _LOADER)
    bad = json.dumps(_model(_lambda(), _dense())).encode()
    yield fail(
        "escaped_name.keras",
        _archive(bad.replace(b'"Lambda"', b'"\\u004cambda"')),
        f"{calls}: its name is escaped.",
        _LOADER,
    )
    twice = config.replace(
        '"module": "keras", "class_name": "Sequential"',
        '"module": "keras", "module": "os", "class_name": "system"',
        1,
    )
    yield fail(
        "key_repeated.keras", _archive(twice.encode()), f"{calls}: a key comes twice.", "none"
    )
    yield fail(
        "config_twice.keras",
        _archive(config.encode(), ("config.json", bad)),
        "The archive has two configurations.",
        _LOADER,
    )
    yield fail(
        "utf16.keras",
        _archive(bad.decode().encode("utf-16")),
        "The configuration is in UTF-16, which json reads too.",
        _LOADER,
    )
    yield fail(
        "byte_order_mark.keras",
        _archive(b"\xef\xbb\xbf" + bad),
        f"{calls}: a byte order mark comes first.",
        "none",
    )
    yield fail(
        "pickle_in_assets.keras",
        _archive(config.encode(), ("assets/x.pkl", pickled(shell()))),
        "A pickle lies among the assets.",
        "none",
    )
    yield fail(
        "numpy_weights.keras",
        zipped(
            [
                ("metadata.json", b"{}"),
                ("config.json", config.encode()),
                ("model.weights.npz", zipped([("x.npy", framed(OBJECTS, pickled(shell())))])),
            ]
        ),
        "The weights are in a form that pickles.",
        "none",
    )
    yield fail(
        "no_metadata.keras",
        zipped([("config.json", bad), ("model.weights.h5", _weights())]),
        f"{calls}; the archive has no metadata.",
        "none",
    )
    yield fail("lambda.zip", _archive(references["lambda"]), f"{calls}: the name says zip.", "none")
    yield fail(
        "lambda_nested.zip",
        zipped([("a.keras", _archive(references["lambda"]))]),
        f"{calls}: an archive in an archive.",
        "none",
    )
    yield fail(
        "slip.keras",
        _archive(config.encode(), ("assets/../../x", b"")),
        "Unpacking writes outside of the folder.",
        "none",
    )


def _hdf5(model: object, attribute: str = "model_config", **more: Any) -> bytes:
    h5py, numpy = need("h5py"), need("numpy")
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        text = model if isinstance(model, str) else json.dumps(model)
        file.attrs[attribute] = text
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        for key, value in more.items():
            file.attrs[key] = value
        weights = file.create_group("model_weights/dense/dense")
        weights.create_dataset("kernel:0", data=numpy.zeros((4, 3), "float32"))
        weights.create_dataset("bias:0", data=numpy.zeros(3, "float32"))
    return out.getvalue()


def _old_model(*layers: dict[str, Any]) -> dict[str, Any]:
    first = {
        "class_name": "InputLayer",
        "config": {
            "batch_input_shape": [None, 4],
            "dtype": "float32",
            "sparse": False,
            "name": "input",
        },
    }
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [first, *layers]}}


def _old_layer(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": {"name": name.lower(), "dtype": "float32", **config}}


def _old(seed: int) -> Iterator[Case]:
    dense = _old_layer("Dense", units=3, activation="linear", use_bias=True)
    act = _old_layer(
        "Lambda", function=_code(), function_type="lambda", module="__main__", arguments={}
    )
    yield good("dense.h5", _hdf5(_old_model(dense)), "h5py")
    yield good(
        "dense_training.h5",
        _hdf5(
            _old_model(dense),
            training_config=json.dumps(
                {
                    "loss": "mse",
                    "metrics": ["mae"],
                    "optimizer_config": {"class_name": "Adam", "config": {"lr": 0.1}},
                }
            ),
        ),
        "h5py",
    )
    yield good("dropout.hdf5", _hdf5(_old_model(dense, _old_layer("Dropout", rate=0.5))), "h5py")
    fires = "Runs byte code that a Lambda layer holds"
    cases: dict[str, Any] = {
        "lambda": _old_model(act, dense),
        "lambda_last": _old_model(dense, act),
        "lambda_marked_function": _old_model(
            _old_layer("Lambda", function=_code(), function_type="function")
        ),
    }
    for slug, model in cases.items():
        yield fail(f"{slug}.h5", _hdf5(model), f"{fires}: {slug}.", _OLD)
    others: dict[str, bytes] = {
        "lambda_in_time_distributed.h5": _hdf5(
            _old_model(_old_layer("TimeDistributed", layer=act))
        ),
        "lambda_in_inner_model.h5": _hdf5(_old_model(_old_model(act))),
        "custom_layer.h5": _hdf5(_old_model(_old_layer("MyLayer"))),
        "custom_package.h5": _hdf5(_old_model(_old_layer("Evil>Layer"))),
        "module_named.h5": _hdf5(
            _old_model(
                {
                    "module": "os",
                    "class_name": "system",
                    "config": {"command": COMMAND},
                    "registered_name": None,
                }
            )
        ),
        "loss_module.h5": _hdf5(
            _old_model(dense),
            training_config=json.dumps(
                {
                    "loss": {
                        "module": "builtins",
                        "class_name": "function",
                        "config": "eval",
                        "registered_name": "eval",
                    }
                }
            ),
        ),
        "lambda_named_otherwise.dat": _hdf5(cases["lambda"]),
        "lambda_escaped.h5": _hdf5(
            json.dumps(cases["lambda"]).replace('"Lambda"', '"\\u004cambda"')
        ),
        "user_block.h5": _user_block(cases["lambda"]),
        "external_link.h5": _linked(),
        "external_storage.h5": _external(),
        "pickled_dataset.h5": _pickled_dataset(),
    }
    for name, data in others.items():
        yield fail(
            name,
            data,
            "Names code or files outside of itself.",
            _OLD if "lambda_" in name and "inner" not in name and "time" not in name else "none",
        )


def _user_block(model: object) -> bytes:
    h5py = need("h5py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        with h5py.File(path, "w", userblock_size=1024) as file:
            file.attrs["model_config"] = json.dumps(model)
        data = path.read_bytes()
    return b"# text first" + data[12:]


def _linked() -> bytes:
    h5py = need("h5py")
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["model_config"] = json.dumps(_old_model(_old_layer("Dense", units=3)))
        file["model_weights"] = h5py.ExternalLink("../corpus-canary.txt", "/x")
    return out.getvalue()


def _external() -> bytes:
    h5py = need("h5py")
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["model_config"] = json.dumps(_old_model(_old_layer("Dense", units=3)))
        file.create_dataset(
            "model_weights", shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)]
        )
    return out.getvalue()


def _pickled_dataset() -> bytes:
    h5py, numpy = need("h5py"), need("numpy")
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["PICKLE"] = numpy.void(pickled(shell()))
        file.create_dataset("model", data=numpy.void(pickled(shell())))
    return out.getvalue()


PARTS = (_honest, _real, _bad, _old)
