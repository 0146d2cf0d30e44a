"""Operators of ONNX in torch, each as its specification has it at inference.

Those that exporters of networks and of linear models make, on numbers; `torch` is handed in.
Whatever an operator is asked that is not written here is refused (`Unknown`), never guessed: what
is computed is held against the runtime's own answers anyway.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keepstone.contract.onnx_graph import Node

# What torch calls by the same name, written small.
_PLAIN = (
    *("Add", "Sub", "Mul", "MatMul", "Neg", "Abs", "Exp", "Log", "Sqrt", "Pow", "Reciprocal"),
    *("Relu", "Sigmoid", "Tanh", "Erf", "Sin", "Cos", "Sign", "Floor"),
)
# How many times its input may be what is padded: a picture of one pixel grows 9 times.
_MAX_GROWTH = 32
Args = list[Any]
Operator = Callable[[Any, Node, Args], Any]


class Unknown(Exception):  # noqa: N818  # no error: what is not computed here
    """An operator, or a way of using one, that is not written here."""


def gemm(torch: Any, node: Node, args: Args) -> Any:
    a, b = args[0], args[1]
    a = a.T if _int(node, "transA", 0) else a
    b = b.T if _int(node, "transB", 0) else b
    found = _float(node, "alpha", 1.0) * (a @ b)
    return found if _missing(args, 2) else found + _float(node, "beta", 1.0) * args[2]


def cast(torch: Any, node: Node, args: Args) -> Any:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 10: torch.float16}
    kinds |= {9: torch.bool, 11: torch.float64}
    to = _int(node, "to", 0)
    if to not in kinds:
        raise Unknown("Cast to another kind of number")
    return args[0].to(kinds[to])


def flatten(torch: Any, node: Node, args: Args) -> Any:
    x, axis = args[0], _int(node, "axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    first = 1
    for size in x.shape[:axis]:
        first *= size
    return x.reshape(first, -1)


def reshape(torch: Any, node: Node, args: Args) -> Any:
    x, wanted = args[0], [int(one) for one in args[1].tolist()]
    if not _int(node, "allowzero", 0):
        wanted = [x.shape[at] if one == 0 else one for at, one in enumerate(wanted)]
    return x.reshape(wanted)


def transpose(torch: Any, node: Node, args: Args) -> Any:
    order = node.attributes.get("perm") or list(reversed(range(args[0].ndim)))
    return args[0].permute(order)


def squeeze(torch: Any, node: Node, args: Args) -> Any:
    axes, x = _axes(node, args), args[0]
    if axes is None:
        return x.squeeze()
    for axis in sorted((one % x.ndim for one in axes), reverse=True):
        x = x.squeeze(axis)
    return x


def unsqueeze(torch: Any, node: Node, args: Args) -> Any:
    axes, x = _axes(node, args) or [], args[0]
    whole = x.ndim + len(axes)
    for axis in sorted(one % whole for one in axes):
        x = x.unsqueeze(axis)
    return x


def gather(torch: Any, node: Node, args: Args) -> Any:
    x, places, axis = args[0], args[1].long(), _int(node, "axis", 0)
    places = torch.where(places < 0, places + x.shape[axis], places)
    found = x.index_select(axis, places.reshape(-1))
    axis = axis % x.ndim
    return found.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def slice_(torch: Any, node: Node, args: Args) -> Any:
    x = args[0]
    if len(args) < 3:
        raise Unknown("Slice with its bounds as attributes")
    starts, ends = ([int(one) for one in each.tolist()] for each in args[1:3])
    axes = list(range(len(starts))) if _missing(args, 3) else [int(one) for one in args[3].tolist()]
    steps = [1] * len(starts) if _missing(args, 4) else [int(one) for one in args[4].tolist()]
    if any(step < 1 for step in steps):
        raise Unknown("Slice backwards")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        part = slice(*slice(start, end, step).indices(x.shape[axis]))
        x = x[(slice(None),) * (axis % x.ndim) + (part,)]
    return x


def constant(torch: Any, node: Node, args: Args) -> Any:
    kinds = {"value_float": torch.float32, "value_floats": torch.float32}
    kinds |= {"value_int": torch.int64, "value_ints": torch.int64}
    for name, kind in kinds.items():
        if node.attributes.get(name) is not None:
            return torch.tensor(node.attributes[name], dtype=kind)
    value = node.attributes.get("value")
    if value is None:
        raise Unknown("Constant of another kind")
    return torch.from_numpy(value)


def softmax(torch: Any, node: Node, args: Args) -> Any:
    return torch.softmax(args[0], _softmax_axis(node, args))


def log_softmax(torch: Any, node: Node, args: Args) -> Any:
    return torch.log_softmax(args[0], _softmax_axis(node, args))


def conv(torch: Any, node: Node, args: Args) -> Any:
    x, weight = args[0], args[1]
    rank = x.ndim - 2
    if rank not in (1, 2, 3):
        raise Unknown("Conv of such a rank")
    run = (torch.conv1d, torch.conv2d, torch.conv3d)[rank - 1]
    x = _padded(torch, node, x, rank, weight.shape[2:], 0.0)
    bias = None if _missing(args, 2) else args[2]
    strides, dilations = _each(node, "strides", rank), _each(node, "dilations", rank)
    return run(x, weight, bias, strides, 0, dilations, _int(node, "group", 1))


def max_pool(torch: Any, node: Node, args: Args) -> Any:
    x, rank, kernel = _pooled(node, args)
    x = _padded(torch, node, x, rank, kernel, float("-inf"))
    pools = torch.nn.functional
    run = (pools.max_pool1d, pools.max_pool2d, pools.max_pool3d)[rank - 1]
    return run(x, kernel, _each(node, "strides", rank), 0, _each(node, "dilations", rank))


def average_pool(torch: Any, node: Node, args: Args) -> Any:
    x, rank, kernel = _pooled(node, args)
    if any(node.attributes.get("pads") or []) and not _int(node, "count_include_pad", 0):
        raise Unknown("AveragePool that leaves out what it padded")
    x = _padded(torch, node, x, rank, kernel, 0.0)
    pools = torch.nn.functional
    run = (pools.avg_pool1d, pools.avg_pool2d, pools.avg_pool3d)[rank - 1]
    return run(x, kernel, _each(node, "strides", rank))


def global_average_pool(torch: Any, node: Node, args: Args) -> Any:
    return args[0].mean(dim=list(range(2, args[0].ndim)), keepdim=True)


def batch_normalization(torch: Any, node: Node, args: Args) -> Any:
    if _int(node, "training_mode", 0):
        raise Unknown("BatchNormalization in training")
    x, scale, bias, mean, variance = args[:5]
    eps = _float(node, "epsilon", 1e-5)
    return torch.nn.functional.batch_norm(x, mean, variance, scale, bias, eps=eps)


def layer_normalization(torch: Any, node: Node, args: Args) -> Any:
    x, scale = args[0], args[1]
    axis = _int(node, "axis", -1) % x.ndim
    bias = None if _missing(args, 2) else args[2]
    eps = _float(node, "epsilon", 1e-5)
    return torch.nn.functional.layer_norm(x, x.shape[axis:], scale, bias, eps)


def gelu(torch: Any, node: Node, args: Args) -> Any:
    how = (node.attributes.get("approximate") or b"none").decode("ascii", "replace")
    return torch.nn.functional.gelu(args[0], approximate=how)


def clip(torch: Any, node: Node, args: Args) -> Any:
    if "min" in node.attributes or "max" in node.attributes:
        return args[0].clamp(node.attributes.get("min"), node.attributes.get("max"))
    low, high = (None if _missing(args, at) else args[at] for at in (1, 2))
    return args[0] if low is None and high is None else args[0].clamp(low, high)


def reduced(name: str) -> Operator:
    def run(torch: Any, node: Node, args: Args) -> Any:
        axes, keep = _axes(node, args), bool(_int(node, "keepdims", 1))
        if not axes and _int(node, "noop_with_empty_axes", 0):
            return args[0]
        return getattr(args[0], name)(dim=axes or list(range(args[0].ndim)), keepdim=keep)

    return run


def linear_classifier(torch: Any, node: Node, args: Args) -> Any:
    """Label and scores; the label is not computed, for no score hangs on it."""
    raw, how = linear_scores(torch, node, args)
    return None, _transformed(torch, raw, how)


def linear_scores(torch: Any, node: Node, args: Args) -> tuple[Any, str]:
    """What a LinearClassifier makes before its last step, and which that is."""
    x, weights = args[0], node.attributes.get("coefficients")
    if weights is None or weights.size % x.shape[1]:
        raise Unknown("LinearClassifier without its coefficients")
    count = weights.size // x.shape[1]
    names = node.attributes.get("classlabels_ints") or node.attributes.get("classlabels_strings")
    if names is None or len(names) != count:
        raise Unknown("LinearClassifier with one score for two classes")
    matrix = torch.from_numpy(weights.reshape(count, -1))
    found = x.to(matrix.dtype) @ matrix.T
    offset = node.attributes.get("intercepts")
    if offset is not None and offset.size:
        found = found + torch.from_numpy(offset)
    return found, (node.attributes.get("post_transform") or b"NONE").decode("ascii", "replace")


def _transformed(torch: Any, raw: Any, how: str) -> Any:
    if how == "SOFTMAX":
        return torch.softmax(raw, 1)
    if how == "LOGISTIC":
        return torch.sigmoid(raw)
    if how != "NONE":
        raise Unknown(f"LinearClassifier that ends with {how[:32]}")
    return raw


def normalizer(torch: Any, node: Node, args: Args) -> Any:
    how = node.attributes.get("norm") or b"MAX"
    if how == b"L1":
        size = args[0].abs().sum(dim=1, keepdim=True)
    elif how == b"L2":
        size = args[0].square().sum(dim=1, keepdim=True).sqrt()
    else:
        size = args[0].amax(dim=1, keepdim=True)
    return args[0] / torch.where(size == 0, torch.ones_like(size), size)


def scaler(torch: Any, node: Node, args: Args) -> Any:
    offset, scale = node.attributes.get("offset"), node.attributes.get("scale")
    if offset is None or scale is None:
        raise Unknown("Scaler without its numbers")
    return (args[0].float() - torch.from_numpy(offset)) * torch.from_numpy(scale)


def _of(name: str) -> Operator:
    """One that torch has under this name, for one tensor or two."""
    return lambda torch, node, args: getattr(torch, name)(*args)


def _with(name: str, parameter: str, default: float) -> Operator:
    """An activation with one number."""

    def run(torch: Any, node: Node, args: Args) -> Any:
        return getattr(torch.nn.functional, name)(args[0], _float(node, parameter, default))

    return run


OPERATORS: Mapping[str, Operator] = {
    **{name: _of(name.lower()) for name in _PLAIN},
    "Div": lambda torch, node, args: (
        args[0] / args[1]
        if args[0].is_floating_point()
        else torch.div(args[0], args[1], rounding_mode="trunc")
    ),
    "Mod": lambda torch, node, args: torch.remainder(args[0], args[1]),
    "Softplus": lambda torch, node, args: torch.nn.functional.softplus(args[0]),
    "Softsign": lambda torch, node, args: torch.nn.functional.softsign(args[0]),
    "Mish": lambda torch, node, args: torch.nn.functional.mish(args[0]),
    "HardSwish": lambda torch, node, args: torch.nn.functional.hardswish(args[0]),
    "LeakyRelu": _with("leaky_relu", "alpha", 0.01),
    "Elu": _with("elu", "alpha", 1.0),
    "PRelu": lambda torch, node, args: torch.where(args[0] < 0, args[0] * args[1], args[0]),
    "HardSigmoid": lambda torch, node, args: (
        _float(node, "alpha", 0.2) * args[0] + _float(node, "beta", 0.5)
    ).clamp(0, 1),
    "Identity": lambda torch, node, args: args[0],
    "Dropout": lambda torch, node, args: args[0],
    "Shape": lambda torch, node, args: torch.tensor(args[0].shape),
    "Concat": lambda torch, node, args: torch.cat(args, dim=_int(node, "axis", 0)),
    "ReduceMean": reduced("mean"),
    "ReduceSum": reduced("sum"),
    "ReduceMax": reduced("amax"),
    "Gemm": gemm,
    "Cast": cast,
    "Flatten": flatten,
    "Reshape": reshape,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Gather": gather,
    "Slice": slice_,
    "Constant": constant,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "Conv": conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "Gelu": gelu,
    "Clip": clip,
    "ai.onnx.ml.LinearClassifier": linear_classifier,
    "ai.onnx.ml.Normalizer": normalizer,
    "ai.onnx.ml.Scaler": scaler,
}


def _softmax_axis(node: Node, args: Args) -> int:
    # Before opset 13 it was of all that follows the axis; for rows of scores that is the same.
    if args[0].ndim != 2:
        return _int(node, "axis", -1)
    return 1


def _pooled(node: Node, args: Args) -> tuple[Any, int, list[int]]:
    kernel = node.attributes.get("kernel_shape")
    rank = args[0].ndim - 2
    if not kernel or len(kernel) != rank or rank not in (1, 2, 3) or _int(node, "ceil_mode", 0):
        raise Unknown(f"{node.operator} of such a kind")
    return args[0], rank, list(kernel)


def _padded(torch: Any, node: Node, x: Any, rank: int, kernel: Any, value: float) -> Any:
    if (node.attributes.get("auto_pad") or b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unknown(f"{node.operator} that pads by itself")
    pads = node.attributes.get("pads") or [0] * 2 * rank
    # A pad beyond the kernel would be room, and no border.
    if len(pads) != 2 * rank or any(not 0 <= one <= 4096 for one in pads):
        raise Unknown(f"{node.operator} with such pads")
    if not any(pads):
        return x
    size = x.shape[0] * x.shape[1]
    for at, given in enumerate(x.shape[2:]):
        size *= given + pads[at] + pads[at + rank]
    if size > _MAX_GROWTH * x.numel():
        raise Unknown(f"{node.operator} with such pads")
    pairs = [(pads[at], pads[at + rank]) for at in reversed(range(rank))]
    return torch.nn.functional.pad(x, [one for pair in pairs for one in pair], value=value)


def _each(node: Node, name: str, rank: int) -> list[int]:
    return list(node.attributes.get(name) or [1] * rank)


def _axes(node: Node, args: Args) -> list[int] | None:
    """Out of the second input, or the attribute that it once was."""
    if not _missing(args, 1):
        return [int(one) for one in args[1].reshape(-1).tolist()]
    return node.attributes.get("axes")


def _missing(args: Args, at: int) -> bool:
    return len(args) <= at or args[at] is None


def _int(node: Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else int(found)


def _float(node: Node, name: str, default: float) -> float:
    found = node.attributes.get(name)
    return default if found is None else float(found)
