"""Which names a Keras configuration may use, and what using any other one means.

Keras looks a saved object up by its module and class: `importlib.import_module` and an attribute
of what comes back. So what may be named is a list (`allowed.txt`), not what may not.

Source: `keras.src.saving.serialization_lib` and `keras.src.legacy.saving.serialization`;
CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2025-9905, CVE-2025-12058.
"""

from __future__ import annotations

import builtins
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

_ALLOWED = Path(__file__).with_name("allowed.txt")
_OWN = re.compile(
    r"(keras|tf_keras|keras_core|tensorflow\.keras|tensorflow\.python\.keras)(\.[A-Za-z_]\w*)*",
    re.ASCII,
)
# Parts of Keras that hold what a model is made of; the others hold tools.
_PARTS = frozenset(
    {
        *("layers", "models", "optimizers", "losses", "metrics", "initializers", "regularizers"),
        *("constraints", "dtype_policies", "quantizers", "random", "ops", "activations", "engine"),
        *(
            "applications",
            "legacy",
            "backend",
            "operations",
            "trainers",
            "feature_column",
            "mixed_precision",
        ),
    }
)
_INNER = frozenset({"src", "api", "_tf_keras", "keras", "_v1", "_v2"})
# Packages of Keras' own house: what they define must come from there, and is no import of others.
_FAMILY = frozenset({"keras_hub", "keras_cv", "keras_nlp", "keras_rs", "keras_tuner", "__main__"})
# Names that older versions, tf.keras and their converters wrote.
_OLDER = frozenset(
    {
        *("Model", "Functional", "Sequential", "Network", "BatchNormalizationV1", "InputSpec"),
        *("BatchNormalizationV2", "CuDNNLSTM", "CuDNNGRU", "LocallyConnected1D", "Highway"),
        *("LocallyConnected2D", "MaxoutDense", "Convolution1D", "Convolution2D", "Convolution3D"),
        *("Deconvolution2D", "AtrousConvolution2D", "SyncBatchNormalization", "GRUV2", "LSTMV2"),
        *("RNN", "DenseFeatures", "SequenceFeatures", "ThresholdedReLU", "VocabLookup", "Policy"),
        *("RandomFourierFeatures", "ClassMethod", "PolicyV1", "AutoCastVariable", "TensorShape"),
        *("TypeSpec", "TensorSpec", "DType", "Variable", "LossScaleOptimizerV3", "AbstractRNNCell"),
        *("DynamicLossScale", "FixedLossScale", "NASCell", "PeepholeLSTMCell", "SumOverBatchSize"),
        *("SumOverBatchSizeMetricWrapper", "LinearModel", "WideDeepModel", "Layer", "AddLoss"),
        *("AddMetric", "SlicingOpLambda", "TFOpLambda", "TensorFlowOpLayer", "RandomWidth"),
        *("RandomHeight", "GlorotUniformV2", "ZerosV2", "OnesV2", "ConstantV2", "ResizeMethod"),
    }
)
_OLDER_FUNCTIONS = frozenset(
    {
        *("mse", "MSE", "mae", "MAE", "mape", "MAPE", "msle", "MSLE", "kld", "KLD", "bce", "BCE"),
        *("kullback_leibler_divergence", "logcosh", "cosine_proximity", "cosine", "accuracy"),
        *("acc", "sparse_categorical_accuracy", "hard_tanh", "gelu", "relu_v2", "softmax_v2"),
    }
)
# What the readers build themselves out of data.
SPECIALS = frozenset(
    {
        *("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__"),
        *("__tuple__", "__sparse_tensor__", "__ragged_tensor__", "__complex__"),
    }
)
_SPECS = frozenset(
    {
        *("TensorSpec", "RaggedTensorSpec", "SparseTensorSpec", "IndexedSlicesSpec"),
        *("TensorArraySpec", "OptionalSpec", "VariableSpec", "KerasTensor"),
    }
)
CODE = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_BUILT_IN_DATA = frozenset({"dict", "list", "tuple", "set", "slice", "int", "float", "str", "bool"})


class Standing(NamedTuple):
    """What naming something means: a rule and its reason, or nothing where it is Keras' own."""

    rule: str = ""
    reason: str = ""


_FINE = Standing()


@cache
def _allowed() -> tuple[frozenset[str], frozenset[str]]:
    """The classes and the functions."""
    lines = _ALLOWED.read_text("ascii").split("\n")
    found: dict[str, set[str]] = {"class": set(_OLDER), "function": set(_OLDER_FUNCTIONS)}
    for line in lines:
        kind, _, name = line.partition(" ")
        if kind in found:
            found[kind].add(name)
    return frozenset(found["class"]), frozenset(found["function"])


def is_class(name: str) -> bool:
    """True for a class of Keras' own; optimisers were looked up in lower case."""
    classes, functions = _allowed()
    return name in classes or name in functions or name.casefold() in _folded()


@cache
def _folded() -> frozenset[str]:
    return frozenset(name.casefold() for name in _allowed()[0])


def is_function(name: str) -> bool:
    return name in _allowed()[1]


def class_standing(name: str, module: object, registered: object) -> Standing:
    """What it means that a configuration names the class `name` of `module`.

    `module` is None in files of older versions, which looked names up among Keras' own and those
    that the process has registered.
    """
    if name.casefold() in ("lambda", "__lambda__") or name in CODE:
        return Standing("keras.lambda", f"The object {name!r} carries code")
    if name.startswith("__"):
        if name in SPECIALS or name == "__typespec__":
            return _FINE
        return Standing("keras.import", f"The object {name!r} is none that Keras writes")
    if module is None:
        return _by_name(name)
    if not isinstance(module, str):
        return Standing("keras.malformed", f"The module of {name!r} is no text")
    if module == "builtins" and name in _BUILT_IN_DATA:
        return _FINE
    if not _OWN.fullmatch(module):
        return _elsewhere(name, module)
    if not is_class(name):
        return _unknown_of_keras(name, module)
    if registered not in (None, name) and ">" in str(registered):
        return Standing("keras.custom_object", f"The class {registered!r} must be registered")
    return _FINE


def function_standing(name: object, module: object) -> Standing:
    """What it means that a configuration names the function `name` of `module`."""
    if not isinstance(name, str):
        # A table that describes it, which is looked at as any other.
        return _FINE
    if module not in (None, "builtins") and not isinstance(module, str):
        return Standing("keras.malformed", f"The module of {name!r} is no text")
    if module in (None, "builtins"):
        if is_function(name) or is_class(name):
            return _FINE
        if hasattr(builtins, name) or not name.isidentifier():
            return Standing("keras.import", f"The function {name!r} is one of Python's own")
        return Standing("keras.custom_object", f"The function {name!r} must come from elsewhere")
    assert isinstance(module, str)
    if not _OWN.fullmatch(module):
        return _elsewhere(name, module)
    return _FINE if is_function(name) or is_class(name) else _unknown_of_keras(name, module)


def spec_standing(name: object, module: object) -> Standing:
    """`__typespec__`: a class of TensorFlow's that describes a tensor."""
    inside = isinstance(module, str) and re.fullmatch(r"tensorflow(\.\w+)*", module, re.ASCII)
    if name in _SPECS and (module is None or inside):
        return _FINE
    return Standing("keras.import", f"The type {module}.{name} describes no tensor")


def _by_name(name: str) -> Standing:
    if is_class(name):
        return _FINE
    if "." in name or "/" in name or name in ("getattr", "eval", "exec", "compile", "open"):
        return Standing("keras.import", f"The class {name!r} is a path")
    return Standing("keras.custom_object", f"The class {name!r} must be registered")


def _elsewhere(name: str, module: str) -> Standing:
    root = module.partition(".")[0]
    if root in _FAMILY and re.fullmatch(r"[\w.]+", module, re.ASCII):
        word = "custom_object" if root == "__main__" else "unknown_class"
        return Standing(f"keras.{word}", f"The class {module}.{name} must come from there")
    return Standing("keras.import", f"The name {module}.{name} is not of Keras")


def _unknown_of_keras(name: str, module: str) -> Standing:
    """A class that a later version may have, or a tool of Keras' that no model is made of."""
    parts = [part for part in module.split(".")[1:] if part not in _INNER and part != "python"]
    if name[:1].isupper() and (not parts or parts[0] in _PARTS) and name.isalnum():
        return Standing("keras.unknown_class", f"The class {module}.{name} is not known here")
    return Standing("keras.import", f"The name {module}.{name} is no part of a model")
