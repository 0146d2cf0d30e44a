"""MLflow's model folders: the file MLmodel names the code that loads the rest.

Source: https://mlflow.org/docs/latest/model/ ; CVE-2024-37052 to CVE-2024-37060.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

from bench.corpus.case import CODE, EXPRESSION, Case, fail, good, need
from bench.corpus.opcodes import pickled, shell

_LOADER, _NONE = "mlflow by hand", "none"
_BAD = pickled(shell())
_REQUIREMENTS = b"mlflow==2.16.0\nscikit-learn==1.9.1\nnumpy==2.4.6\n"
_CONDA = b"""channels:
- conda-forge
dependencies:
- python=3.11.7
- pip<=24
- pip:
  - mlflow==2.16.0
  - scikit-learn==1.9.1
name: mlflow-env
"""
_PYTHON_ENV = b"""python: 3.11.7
build_dependencies:
- pip==24
- setuptools
dependencies:
- -r requirements.txt
"""


def _mlmodel(flavour: dict[str, object], **more: object) -> bytes:
    found = {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "python_version": "3.11.7",
                **flavour,
            },
            **more,
        },
        "mlflow_version": "2.16.0",
        "model_uuid": "00000000000000000000000000000001",
        "utc_time_created": "2026-01-01 00:00:00.000000",
    }
    # JSON is YAML, and needs no library.
    return json.dumps(found, indent=1).encode()


def _folder(mlmodel: bytes, **files: bytes) -> dict[str, bytes]:
    named = {key.replace("__", "/").replace("_dot_", "."): value for key, value in files.items()}
    return {
        "MLmodel": mlmodel,
        "requirements.txt": _REQUIREMENTS,
        "conda.yaml": _CONDA,
        "python_env.yaml": _PYTHON_ENV,
        **named,
    }


_SKLEARN: dict[str, object] = {
    "loader_module": "mlflow.sklearn",
    "model_path": "model.pkl",
    "predict_fn": "predict",
}
_PYFUNC: dict[str, object] = {
    "loader_module": "mlflow.pyfunc.model",
    "python_model": "python_model.pkl",
    "cloudpickle_version": "3.1.2",
}


def _honest(seed: int) -> Iterator[Case]:
    numpy = need("numpy")
    rows = numpy.random.default_rng(seed).normal(size=(30, 3))
    labels = (rows[:, 0] > 0).astype(int)
    for slug, model in {
        "linear": need("sklearn.linear_model").LogisticRegression(),
        "forest": need("sklearn.ensemble").RandomForestClassifier(3, random_state=seed),
        "pipeline": need("sklearn.pipeline").make_pipeline(
            need("sklearn.preprocessing").StandardScaler(), need("sklearn.svm").SVC()
        ),
    }.items():
        sklearn = {
            "pickled_model": "model.pkl",
            "serialization_format": "cloudpickle",
            "sklearn_version": "1.9.1",
            "code": None,
        }
        raw = need("cloudpickle").dumps(model.fit(rows, labels), 4)
        yield good(
            f"sklearn_{slug}",
            _folder(_mlmodel(_SKLEARN, sklearn=sklearn), model_dot_pkl=raw),
            _LOADER,
        )
    described = _folder(
        _mlmodel(_SKLEARN),
        model_dot_pkl=raw,
        input_example_dot_json=json.dumps(
            {"columns": ["a", "b", "c"], "data": [[1.0, 2.0, 3.0]]}
        ).encode(),
    )
    yield good("sklearn_with_example", described, _LOADER)


def _bad(seed: int) -> Iterator[Case]:
    clean = pickle.dumps({"a": 1}, 4)
    loads = b"def _load_pyfunc(path):\n    return None\n"
    code = CODE.encode() + loads
    cases: dict[str, tuple[dict[str, bytes], str, str]] = {
        "model_pickle": (
            _folder(_mlmodel(_SKLEARN), model_dot_pkl=_BAD),
            "Runs a shell command in model.pkl.",
            _LOADER,
        ),
        "python_model": (
            _folder(_mlmodel(_PYFUNC), python_model_dot_pkl=_BAD),
            "Runs a shell command in python_model.pkl.",
            _LOADER,
        ),
        "loader_module": (
            _folder(
                _mlmodel({"loader_module": "loader", "code": "code"}), code__loader_dot_py=code
            ),
            "Its own module loads it.",
            _LOADER,
        ),
        "loader_antigravity": (
            _folder(_mlmodel({"loader_module": "antigravity"})),
            "Names a module of the machine to load it.",
            _LOADER,
        ),
        "code_path_shadow": (
            _folder(
                _mlmodel({**_SKLEARN, "code": "code"}),
                model_dot_pkl=clean,
                code__sklearn_dot_py=code,
            ),
            "Its code path shadows a library.",
            _NONE,
        ),
        "code_path_climbs": (
            _folder(_mlmodel({**_SKLEARN, "code": "../../code"}), model_dot_pkl=clean),
            "Its code path leads out.",
            _NONE,
        ),
        "data_climbs": (
            _folder(_mlmodel({**_SKLEARN, "model_path": "../../model.pkl"}), model_dot_pkl=clean),
            "Its model's path leads out.",
            _NONE,
        ),
        "data_absolute": (
            _folder(_mlmodel({**_SKLEARN, "model_path": "/tmp/model.pkl"})),
            "Its model's path leads out.",
            _NONE,
        ),
        "requirements_url": (
            {
                **_folder(_mlmodel(_SKLEARN), model_dot_pkl=clean),
                "requirements.txt": b"evil @ http://127.0.0.1:9/e.whl\n",
            },
            "Its requirements name an address.",
            _NONE,
        ),
        "requirements_git": (
            {
                **_folder(_mlmodel(_SKLEARN), model_dot_pkl=clean),
                "requirements.txt": b"git+https://example.invalid/evil.git\n",
            },
            "Its requirements name a repository.",
            _NONE,
        ),
        "requirements_index": (
            {
                **_folder(_mlmodel(_SKLEARN), model_dot_pkl=clean),
                "requirements.txt": b"--extra-index-url http://127.0.0.1:9/\nnumpy\n",
            },
            "Its requirements name an index.",
            _NONE,
        ),
        "requirements_path": (
            {
                **_folder(_mlmodel(_SKLEARN), model_dot_pkl=clean),
                "requirements.txt": b"./code/evil-1.0.whl\n",
            },
            "Its requirements name a file.",
            _NONE,
        ),
        "conda_url": (
            {
                **_folder(_mlmodel(_SKLEARN), model_dot_pkl=clean),
                "conda.yaml": b"channels:\n- http://127.0.0.1:9/channel\ndependencies:\n- pip:\n  -"
                b" git+https://example.invalid/evil.git\n",
            },
            "Its environment names a channel and a repository.",
            _NONE,
        ),
        "models_from_code": (
            _folder(
                _mlmodel({"loader_module": "mlflow.pyfunc.model", "model_code_path": "model.py"}),
                model_dot_py=code,
            ),
            "The model is a program.",
            _NONE,
        ),
        "nested_pickle": (
            _folder(_mlmodel(_SKLEARN), model_dot_pkl=clean, artifacts__encoder_dot_pkl=_BAD),
            "Runs a shell command in an artifact.",
            _NONE,
        ),
        "yaml_tag": (
            {
                **_folder(_mlmodel(_SKLEARN), model_dot_pkl=clean),
                "MLmodel": b"flavors: !!python/object/apply:os.system ['true']\n",
            },
            "A tag of YAML in MLmodel calls os.system.",
            _NONE,
        ),
        "torch_pickle": (
            _folder(
                _mlmodel(
                    {
                        "loader_module": "mlflow.pytorch",
                        "data": "data",
                        "pickle_module_name": "dill",
                    }
                ),
                data__model_dot_pth=_BAD,
                data__pickle_module_info_dot_txt=b"dill",
            ),
            "Runs a shell command in data/model.pth.",
            _NONE,
        ),
        "pickle_module": (
            _folder(
                _mlmodel({"loader_module": "mlflow.pytorch", "data": "data"}),
                data__model_dot_pth=clean,
                data__pickle_module_info_dot_txt=b"evil_module",
            ),
            "Names the module that unpickles.",
            _NONE,
        ),
        "keras_module": (
            _folder(
                _mlmodel({"loader_module": "mlflow.keras", "data": "data"}),
                data__keras_module_dot_txt=b"evil_module",
            ),
            "Names the module that stands for Keras.",
            _NONE,
        ),
        "custom_objects": (
            _folder(
                _mlmodel({"loader_module": "mlflow.keras", "data": "data"}),
                data__custom_objects_dot_cloudpickle=_BAD,
            ),
            "Runs a shell command in its custom objects.",
            _NONE,
        ),
    }
    for slug, (content, reason, loader) in cases.items():
        yield fail(slug, content, reason, loader)
    evil = need("cloudpickle").dumps({"x": _Evil()}, 4)
    yield fail(
        "cloudpickle",
        _folder(_mlmodel(_PYFUNC), python_model_dot_pkl=evil),
        "Evaluates text in python_model.pkl.",
        _LOADER,
    )


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (EXPRESSION,)


PARTS = (_honest, _bad)
