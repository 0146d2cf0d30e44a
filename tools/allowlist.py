"""Learn the scanner's allow-list from the frameworks that are installed here.

    python -m tools.allowlist [FRAMEWORK...]

Two sources are merged into `src/keepstone/scan/pickle/allowed/`; nothing is ever taken out, so
that names of older versions stay:

(1) What the frameworks' own objects (`tools.specimens`) need, protocol by protocol: each name
    with just the words that loading used.
(2) Classes of these packages whose making and whose state run no code of their own (no
    `__new__`, `__setstate__`, `__setattr__`, `__del__` beyond reviewed ones), and functions that
    users hand to estimators, as values that are never called.

A callable that is called and is new to the list is printed: look at what it does with its
arguments, and give it a check where it calls, imports or opens what it is given.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import pickle
import pkgutil
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from keepstone.scan.pickle.danger import why_dangerous
from keepstone.scan.pickle.machine import Machine
from keepstone.scan.pickle.opcodes import Cause
from keepstone.scan.pickle.values import UNKNOWN, Global, Made, Value
from tools.specimens import SPECIMENS, specimens

HOME = Path(__file__).parents[1] / "src" / "keepstone" / "scan" / "pickle" / "allowed"
Names = dict[str, dict[str, set[str]]]

# Callables that use what they are given, and the check that holds each to what is harmless.
# Also those that the introspection would not find.
REVIEWED: dict[str, dict[str, str]] = {
    "builtins": {
        "getattr": "call:attribute",
        "bytearray": "call:bytearray list",
        "type": "value call:type",
        "object": "value new build",
        "set": "call:plain set",
        "frozenset": "call:plain",
        "complex": "call:plain",
        "slice": "call:plain",
        "range": "call:plain",
        "bytes": "call:plain",
        "list": "call:plain list",
        "dict": "call:mapping dict",
        "tuple": "call:plain new",
        "int": "call:plain",
        "float": "call:plain",
        "str": "call:plain",
        "bool": "call:plain",
        **dict.fromkeys(
            (
                *("Exception", "ValueError", "TypeError", "KeyError", "IndexError", "OSError"),
                *("RuntimeError", "AttributeError", "NotImplementedError", "StopIteration"),
                *("UserWarning", "Warning", "RuntimeWarning", "FutureWarning"),
            ),
            "call:plain build",
        ),
    },
    **{
        module: dict.fromkeys(
            (
                *("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"),
                "PurePath",
            ),
            "call:plain",
        )
        for module in ("pathlib", "pathlib._local")
    },
    "_codecs": {"encode": "call:latin"},
    "copyreg": {"_reconstructor": "call:reconstructor build", "__newobj__": "call:class build"},
    "collections": {
        "OrderedDict": "call:mapping new build dict",
        "defaultdict": "call:factory new build dict",
        "Counter": "call:mapping new build dict",
        "deque": "call:plain new build list",
        "UserString": "new build",
    },
    "re": {"_compile": "call:texts"},
    "_sre": {"compile": "value"},
    "scipy.spatial._ckdtree": {"cKDTree": "new build"},
    "scipy.spatial.ckdtree": {"cKDTree": "new build"},
    "pyarrow.lib": dict.fromkeys(
        (
            *("_restore_array", "type_for_alias", "py_buffer", "chunked_array", "field", "schema"),
            *("list_", "large_list", "timestamp", "duration", "decimal128", "dictionary", "struct"),
        ),
        "call",
    ),
    "types": {"SimpleNamespace": "call:plain new build"},
    "zoneinfo": {"ZoneInfo._unpickle": "call:plain"},
    "pytz": {"_p": "call:plain", "_UTC": "call:plain", "UTC": "value"},
    "pytz.tzinfo": {"_p": "call:plain"},
    "dateutil.tz.tz": {"tzutc": "call:plain new build", "tzoffset": "call:plain new build"},
    "numpy": {
        "dtype": "call build",
        "ndarray": "new build value",
        "memmap": "value",
        "vectorize": "new build",
    },
    "numpy.lib._function_base_impl": {"vectorize": "new build"},
    "numpy.lib.function_base": {"vectorize": "new build"},
    "numpy.random.bit_generator": {
        "__pyx_unpickle_SeedSequence": "call:class build",
        "SeedSequence": "new build",
    },
    "numpy.random._bit_generator": {
        "__pyx_unpickle_SeedSequence": "call:class build",
        "SeedSequence": "new build",
    },
    **{
        module: dict.fromkeys(names.split(), "call:class build")
        for module, names in (
            ("pandas.core.indexes.base", "_new_Index"),
            ("pandas.indexes.base", "_new_Index"),
            ("pandas.core.index", "_new_Index"),
            ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"),
            ("pandas.tseries.index", "_new_DatetimeIndex"),
            ("pandas.core.indexes.interval", "_new_IntervalIndex"),
            ("pandas.core.indexes.timedeltas", "_new_TimedeltaIndex"),
            ("pandas.core.indexes.period", "_new_PeriodIndex"),
            ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
            ("pandas._libs.interval", "__pyx_unpickle_IntervalMixin"),
            ("pandas._libs.internals", "__pyx_unpickle_BlockPlacement"),
        )
    },
    **{
        module: {"_ufunc_reconstruct": "call:name", "_DType_reconstruct": "value"}
        for module in ("numpy.core", "numpy._core")
    },
    **{
        module: {"_reconstruct": "call:array build", "scalar": "call"}
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    },
    **{
        module: {"_frombuffer": "call build"}
        for module in ("numpy.core.numeric", "numpy._core.numeric")
    },
    **{module: {"memmap": "value"} for module in ("numpy.core.memmap", "numpy._core.memmap")},
    "numpy.ma.core": {
        "_mareconstruct": "call:masked build",
        "MaskedArray": "value",
        "MaskedConstant": "value call",
    },
    "numpy.ma": {"MaskedArray": "value"},
    "numpy.random._pickle": {
        "__randomstate_ctor": "call:random_state build",
        "__generator_ctor": "call:random_state build",
        "__bit_generator_ctor": "call:bit_generator build",
    },
    "numpy.random": {
        "__RandomState_ctor": "call:random_state build",
        "RandomState": "value",
    },
    **{
        f"numpy.random.{module}": {name: "call:plain build"}
        for module, name in (
            ("_mt19937", "MT19937"),
            ("_pcg64", "PCG64"),
            ("_pcg64", "PCG64DXSM"),
            ("_philox", "Philox"),
            ("_sfc64", "SFC64"),
        )
    },
    "joblib.numpy_pickle": {
        "NumpyArrayWrapper": "new build",
        "NDArrayWrapper": "new build",
        "ZNDArrayWrapper": "new build",
    },
    "joblib.numpy_pickle_compat": {"NDArrayWrapper": "new build", "ZNDArrayWrapper": "new build"},
    "sklearn.externals.joblib.numpy_pickle": {
        "NumpyArrayWrapper": "new build",
        "NDArrayWrapper": "new build",
    },
    "dill._dill": {"_load_type": "call:dill_type", "_create_array": "call:dill_array build"},
    "dill.dill": {"_load_type": "call:dill_type", "_create_array": "call:dill_array build"},
    "sklearn.utils._bunch": {"Bunch": "new build attributes"},
    "sklearn.utils": {"Bunch": "new build attributes"},
    "sklearn.datasets.base": {"Bunch": "new build attributes"},
    "scipy.optimize._optimize": {"OptimizeResult": "new build attributes"},
    "scipy.optimize.optimize": {"OptimizeResult": "new build attributes"},
    "torch._utils": {
        **dict.fromkeys(
            ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"),
            "call:storage build",
        ),
        "_rebuild_parameter": "call build",
        "_rebuild_parameter_with_state": "call:parameter build",
        "_rebuild_sparse_tensor": "call build",
        "_rebuild_meta_tensor_no_storage": "call build",
        "_rebuild_nested_tensor": "call build",
        "_rebuild_sparse_csr_tensor": "call build",
        "_rebuild_wrapper_subclass": "value",
        "_rebuild_device_tensor_from_numpy": "call build",
        "_rebuild_device_tensor_from_cpu_tensor": "call build",
    },
    "torch._tensor": {"_rebuild_from_type_v2": "call:typed build", "_rebuild_from_type": "value"},
    "torch.storage": {
        "_load_from_bytes": "call:file build",
        "UntypedStorage": "value",
        "TypedStorage": "new build",
    },
    "torch": {
        "Size": "call:plain new",
        "device": "call:plain",
        "Tensor": "value new",
        "UntypedStorage": "value",
        **{
            f"{name}Storage": "value"
            for name in [
                "Float",
                "Double",
                "Half",
                "BFloat16",
                "Long",
                "Int",
                "Short",
                "Char",
                "Byte",
                "Bool",
                "ComplexFloat",
                "ComplexDouble",
                "QInt8",
                "QUInt8",
                "QInt32",
                "QUInt4x2",
                "QUInt2x4",
            ]
        },
        **dict.fromkeys(
            [
                "float8_e4m3fn",
                "float8_e5m2",
                "float8_e4m3fnuz",
                "float8_e5m2fnuz",
                "per_tensor_affine",
                "per_channel_affine",
                "per_channel_affine_float_qparams",
                "per_tensor_symmetric",
                "per_channel_symmetric",
                "quint4x2",
                "quint2x4",
                "uint1",
                "uint2",
                "uint3",
                "uint4",
                "uint5",
                "uint6",
                "uint7",
                "bits8",
                "bits16",
                "float4_e2m1fn_x2",
                "float8_e8m0fnu",
                "chalf",
                "complex32",
                "sparse_csc",
                "sparse_bsr",
                "sparse_bsc",
                "jagged",
            ],
            "value",
        ),
    },
    "torch.nn.parameter": {
        "Parameter": "value new",
        "Buffer": "value new",
        "UninitializedParameter": "value",
    },
    "torch.serialization": {"_get_layout": "call:plain"},
    "torch.jit._pickle": dict.fromkeys(
        [
            "build_intlist",
            "build_tensorlist",
            "build_doublelist",
            "build_boollist",
            "build_tensor_from_id",
            "restore_type_tag",
        ],
        "call",
    ),
    "torch._C": {"Generator": "value"},
}
# Names that pandas' own loader maps to new ones, and those of catboost, which is not installed.
OLDER: dict[str, dict[str, str]] = {
    "catboost.core": dict.fromkeys(
        ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker"), "new build"
    ),
    "pytz": {"_p": "call:plain", "_UTC": "call:plain"},
}

# Where a class may define these and still run nothing that its file chooses.
_HOOKS = (
    *("__new__", "__setstate__", "__setattr__", "__del__", "__reduce__", "__reduce_ex__"),
    *("__getattr__", "__getattribute__"),
)
_HARMLESS = {
    "builtins": _HOOKS,
    "sklearn.base": ("__setstate__",),
    "sklearn.isotonic": ("__setstate__",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("__setstate__",),
    "scipy.sparse._coo": ("__setstate__",),
    "typing": _HOOKS,
    "abc": _HOOKS,
    "torch.nn.modules.module": ("__setstate__", "__setattr__", "__getattr__"),
    "torch.nn.modules.activation": ("__setstate__",),
    "torch.nn.modules.conv": ("__setstate__",),
    "torch.nn.modules.pooling": ("__setstate__",),
    "torch.nn.modules.rnn": ("__setstate__", "__setattr__"),
    "torch.nn.modules.transformer": ("__setstate__",),
    "torch.nn.modules.upsampling": ("__setstate__",),
    "torch.optim.optimizer": ("__setstate__",),
    **{
        f"torch.optim.{name}": ("__setstate__",)
        for name in [
            "adagrad",
            "_adafactor",
            "adamw",
            "adam",
            "adamax",
            "asgd",
            "sgd",
            "rmsprop",
            "nadam",
            "radam",
            "rprop",
            "adadelta",
        ]
    },
}
# What is introspected, and which parts of it never are: they open files, fetch or test.
_PACKAGES = {
    "sklearn": (
        "datasets",
        "tests",
        "externals",
        "_build_utils",
        "callback",
        "utils._testing",
        "conftest",
        "utils._joblib",
        "utils.parallel",
        "utils._plotting",
        "utils.fixes",
    ),
    "scipy": None,
    "lightgbm": None,
    "xgboost": None,
    "torch": None,
}
_ONLY = {
    "scipy": ("sparse._", "interpolate._", "spatial._", "spatial.distance", "stats._kde"),
    "lightgbm": ("sklearn",),
    "xgboost": ("sklearn",),
    "torch": ("nn.modules", "optim", "nn.parameter", "nn.functional"),
}
# Functions of these are handed to estimators: named, never called.
_FUNCTIONS = (
    "sklearn.metrics",
    "sklearn.feature_selection",
    "sklearn.preprocessing._data",
    "scipy.spatial.distance",
    "sklearn.utils.validation",
    "torch.nn.functional",
)

# Compiled classes that are made by a call, out of numbers and arrays.
_NATIVE = (
    "sklearn.metrics._dist_metrics",
    "sklearn.neighbors._kd_tree",
    "sklearn.neighbors._ball_tree",
    "sklearn._loss._loss",
    "sklearn.linear_model._sgd_fast",
    "sklearn.tree._tree",
    "sklearn.tree._criterion",
    "sklearn.tree._splitter",
)
# What modules of scikit-learn were called before 0.22, where only an underscore is not it.
_RENAMED = {
    "sklearn.tree._classes": ("sklearn.tree.tree",),
    "sklearn.tree._tree": ("sklearn.tree._tree",),
    "sklearn.cluster._kmeans": ("sklearn.cluster.k_means_",),
    "sklearn.cluster._dbscan": ("sklearn.cluster.dbscan_",),
    "sklearn.cluster._affinity_propagation": ("sklearn.cluster.affinity_propagation_",),
    "sklearn.cluster._mean_shift": ("sklearn.cluster.mean_shift_",),
    "sklearn.cluster._agglomerative": ("sklearn.cluster.hierarchical",),
    "sklearn.ensemble._gb": ("sklearn.ensemble.gradient_boosting", "sklearn.ensemble._gb"),
    "sklearn.neural_network._multilayer_perceptron": (
        "sklearn.neural_network.multilayer_perceptron",
    ),
    "sklearn.feature_selection._univariate_selection": (
        "sklearn.feature_selection.univariate_selection",
    ),
    "sklearn.discriminant_analysis": ("sklearn.lda", "sklearn.qda"),
    "sklearn.neighbors._ball_tree": ("sklearn.neighbors.ball_tree",),
    "sklearn.neighbors._kd_tree": ("sklearn.neighbors.kd_tree",),
    "sklearn.metrics._dist_metrics": (
        "sklearn.neighbors.dist_metrics",
        "sklearn.neighbors._dist_metrics",
    ),
    "sklearn.linear_model._sgd_fast": ("sklearn.linear_model.sgd_fast",),
    "sklearn.impute._base": ("sklearn.preprocessing.imputation", "sklearn.impute"),
    "sklearn.mixture._gaussian_mixture": ("sklearn.mixture.gaussian_mixture",),
    "sklearn.utils._bunch": ("sklearn.utils",),
}


class Recorder:
    """Takes everything a loader would do as harmless, and notes it."""

    def __init__(self) -> None:
        self.names: Names = defaultdict(lambda: defaultdict(set))

    def imported(self, module: str, name: str, at: int) -> Value:
        self.names[module][name].add("value")
        return Global(module, name, None)

    def computed(self, parts: tuple[Value, Value], at: int) -> Value:
        return UNKNOWN

    def extension(self, code: int, at: int) -> Value:
        return UNKNOWN

    def _word(self, one: Global | None, word: str) -> None:
        if one is not None:
            self.names[one.module][one.name].add(word)

    def called(self, how: str, callee: Value, args: Value, at: int) -> Value:
        if not isinstance(callee, Global):
            return UNKNOWN
        new = how.startswith("NEWOBJ") or how == "OBJ without arguments"
        self._word(callee, "new" if new else "call")
        if isinstance(args, tuple) and str(callee) in (
            "copyreg._reconstructor",
            "copyreg.__newobj__",
        ):
            first = args[0]
            if isinstance(first, Global):
                self._word(first, "new")
                return Made(first, None, args)
        if str(callee) == "builtins.getattr" and isinstance(args, tuple):
            first, name = args
            if isinstance(first, Global):
                return self.imported(first.module, f"{first.name}.{name}", at)
        return Made(callee, None, args)

    def built(self, target: Value, state: Value, at: int) -> None:
        if isinstance(target, Made):
            self._word(target.maker, "build")

    def grown(self, target: Value, how: str, values: list[Value], at: int) -> None:
        if isinstance(target, Made):
            self._word(target.maker, {"extend": "list", "__setitem__": "dict", "add": "set"}[how])

    def persistent(self, name: Value, at: int) -> Value:
        return UNKNOWN

    def odd(self, reason: str, at: int) -> None: ...


def recorded(framework: str) -> Names:
    """Source 1: what the framework's own objects need."""
    recorder = Recorder()
    for thing in specimens(framework):
        for protocol in (0, 2, 4, 5):
            try:
                data = _dumped(framework, thing, protocol)
            except Exception as error:
                print(f"left out: {type(thing).__name__}: {error}"[:100], file=sys.stderr)
                continue
            machine = Machine(memoryview(data), recorder)
            while machine.run(machine.at, 10_000_000) is Cause.STOP and machine.at < len(data):
                pass
    return recorder.names


def _dumped(framework: str, thing: Any, protocol: int) -> bytes:
    if framework != "torch":
        return pickle.dumps(thing, protocol)
    import zipfile

    import torch

    out = io.BytesIO()
    torch.save(thing, out, pickle_protocol=max(protocol, 2))
    with zipfile.ZipFile(out) as file:
        return file.read("archive/data.pkl")


def introspected(framework: str) -> Names:
    """Source 2: classes that are plain data, and functions that are handed around."""
    names: Names = defaultdict(lambda: defaultdict(set))
    for module in _modules(framework):
        for name, one in vars(module).items():
            if getattr(one, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(one) and module.__name__ in _NATIVE:
                names[module.__name__][name] |= {"new", "build", "call"}
            elif inspect.isclass(one) and one.__name__ == name and _is_data(one):
                words = {"new", "build"}
                words |= {kind.__name__ for kind in (list, dict, set) if issubclass(one, kind)}
                names[module.__name__][name] |= words
            elif inspect.isfunction(one) and _is_handed_around(module.__name__, name):
                names[module.__name__][name].add("value")
    return names


def _is_handed_around(module: str, name: str) -> bool:
    opens = name.startswith(("load", "fetch", "dump", "save"))
    return module.startswith(_FUNCTIONS) and name.isidentifier() and not opens


def _modules(framework: str) -> Iterator[ModuleType]:
    package = importlib.import_module(framework)
    only, never = _ONLY.get(framework), _PACKAGES[framework] or ()
    for found in pkgutil.walk_packages(package.__path__, f"{framework}.", onerror=lambda _: None):
        inner = found.name.partition(".")[2]
        if any(part in ("tests", "conftest", "setup") for part in inner.split(".")):
            continue
        if inner.startswith(never) or (only is not None and not inner.startswith(only)):
            continue
        try:
            yield importlib.import_module(found.name)
        except Exception as error:
            print(f"not imported: {found.name}: {error}"[:100], file=sys.stderr)


def _is_data(kind: type) -> bool:
    """True where making an object and giving it a state runs no code that needs a look."""
    if issubclass(kind, (BaseException, ModuleType)):
        return False
    for base in kind.__mro__:
        allowed = _HARMLESS.get(base.__module__, ())
        if any(hook in vars(base) and hook not in allowed for hook in _HOOKS):
            return False
    return True


def older(names: Names) -> Names:
    """The names that pandas' own loader moves, and those of scikit-learn before 0.22."""
    found: Names = defaultdict(lambda: defaultdict(set))
    for module, members in list(names.items()):
        plain = ".".join(part.lstrip("_") for part in module.split("."))
        if module.startswith("sklearn."):
            for old in {plain, *_RENAMED.get(module, ())} - {module}:
                for name, words in members.items():
                    found[old][name] |= words
    if "pandas" in {module.partition(".")[0] for module in names}:
        from pandas.compat import pickle_compat

        moved = getattr(pickle_compat, "_class_locations_map", {})
        for (module, name), (now, called) in moved.items():
            same = names.get(now, {}).get(called)
            if same:
                found[module][name] |= same
    return found


def merge(framework: str, found: list[Names]) -> None:
    """Put what was found beside what is there, one file per top-level package."""
    files: dict[str, dict[str, dict[str, set[str]]]] = {}
    for names in found:
        for module, members in names.items():
            top = module.partition(".")[0]
            file = top.lower() if (top in _SHIPPED) else "python"
            known = files.setdefault(file, _read(file))
            for name, words in members.items():
                reviewed = _reviewed(module, name)
                if reviewed is not None:
                    known.setdefault(module, {})[name] = set(reviewed.split())
                    continue
                if why_dangerous(module, name) is not None:
                    print(f"refused: {module}.{name}", file=sys.stderr)
                    continue
                here = known.setdefault(module, {}).setdefault(name, set())
                if "call" in words and not any(word.startswith("call") for word in here):
                    print(f"look at this call: {module}.{name}", file=sys.stderr)
                here |= words
    for file, known in files.items():
        _write(file, known)


def _reviewed(module: str, name: str) -> str | None:
    if module.startswith("scipy.stats.") and name.endswith("_gen"):
        return "new build:scipy"
    if name.startswith("__pyx_unpickle_") or name == "newObj":
        return "call:class build"
    if module.startswith("pandas") and name.endswith(("Index", "Array", "Categorical", "Dtype")):
        return REVIEWED.get(module, {}).get(name, "new build call")
    return REVIEWED.get(module, {}).get(name)


_SHIPPED = (
    "numpy",
    "pyarrow",
    "scipy",
    "pandas",
    "sklearn",
    "joblib",
    "lightgbm",
    "xgboost",
    "catboost",
    "torch",
    "dill",
    "pytz",
    "dateutil",
)


def _path(file: str) -> Path:
    return HOME / f"{file}.json"


def _read(file: str) -> dict[str, dict[str, set[str]]]:
    if not _path(file).exists():
        return {}
    names = json.loads(_path(file).read_text())["names"]
    return {
        module: {name: set(words.split()) for name, words in members.items()}
        for module, members in names.items()
    }


def _write(file: str, names: dict[str, dict[str, set[str]]]) -> None:
    shown = {
        module: {name: _spelled(words) for name, words in sorted(members.items())}
        for module, members in sorted(names.items())
    }
    document = {"package": file, "names": shown}
    _path(file).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _spelled(words: set[str]) -> str:
    more = sorted(words - {"value"})
    return " ".join(more) if more else "value"


def main(arguments: list[str]) -> int:
    HOME.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    for framework in arguments or SPECIMENS:
        try:
            found = [recorded(framework)]
            if framework in _PACKAGES:
                found.append(introspected(framework))
        except ImportError as error:
            print(f"{framework} is not installed: {error}", file=sys.stderr)
            continue
        merge(framework, [*found, *map(older, found)])
    fixed: list[Names] = [
        {module: {name: set(words.split()) for name, words in members.items()}}
        for table in (REVIEWED, OLDER)
        for module, members in table.items()
    ]
    for file in fixed:
        merge("", [file])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
