"""ONNX: what the structure says, then what the runtime says, in a process of its own.

Promise: clean means that every node comes from operators that onnxruntime brings, every weight
lies in the file or in one beside it, every reader sees the same model, and onnxruntime opened it
within limits. It says nothing about what the model computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from keepstone.contract.onnx import OnnxFunction, OnnxModel, read_onnx
from keepstone.core.finding import Finding
from keepstone.errors import InputError
from keepstone.scan.onnx.bombs import constant_bombs
from keepstone.scan.onnx.checker import Checked, check_with_runtime
from keepstone.scan.onnx.external import ExternalFiles
from keepstone.scan.rules import RULES, printable
from keepstone.scan.texts import program_in
from keepstone.scan.view import View

# Protobuf takes no message of 2 GiB or more.
MAX_SIZE = (1 << 31) - 1
MAX_EXPANDED_NODES = 1_000_000
MAX_SPARSE_ELEMENTS = 1 << 28

# What onnxruntime's own build defines. The default domain is the empty string.
STANDARD_DOMAINS = frozenset(
    {
        *("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training"),
        *("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"),
    }
)
# Operators of those domains that open files or call into the host process.
HOST_OPERATORS = frozenset(
    {
        ("com.microsoft", "EPContext"),
        ("com.microsoft", "PythonOp"),
        ("com.microsoft", "PythonOpGrad"),
        ("com.microsoft", "ATen"),
        ("com.microsoft", "TorchEmbedding"),
        ("com.microsoft", "ExternalGradient"),
    }
)


def scan_onnx(view: View) -> Iterator[Finding]:
    """Judge one ONNX file. No finding means clean."""
    if len(view.data) > MAX_SIZE:
        yield view.finding("onnx.too_large", "The file is larger than ONNX allows: 2 GiB.")
        return
    try:
        model = read_onnx(view.data)
    except InputError as error:
        rule = error.code if error.code in RULES else "onnx.malformed"
        yield view.finding(rule, error.cause)
        return
    found = list(_structure(model, view))
    yield from found
    with ExternalFiles.beside(view) as external:
        open_questions = list(_external(model, view, external))
        yield from open_questions
        # The runtime only sees what passed: a model that is refused anyway need not be opened.
        if not found and not open_questions:
            with view.descriptor() as descriptor:
                checked = _check(view, descriptor, external)
            yield from _runtime(checked, model, view)


def _check(view: View, descriptor: int, external: ExternalFiles) -> Checked:
    if not external.files:
        return check_with_runtime(descriptor, len(view.data), view.sha256)
    return check_with_runtime(descriptor, len(view.data), view.sha256, None, external.files)


def _external(model: OnnxModel, view: View, external: ExternalFiles) -> Iterator[Finding]:
    """Each file that weights lie in, and the first tensor that says so."""
    first = {tensor.location: tensor for tensor in reversed(model.external_tensors)}
    for location, reach in model.external_reach.items():
        problem = external.open(location, reach)
        if problem is not None:
            rule, why = problem
            tensor = first.get(location[:256])
            name = "" if tensor is None else f" of the tensor {printable(tensor.name)!r}"
            yield view.finding(
                rule,
                f"The data{name} lies in {printable(location)!r}: {why}.",
                None if tensor is None else tensor.offset,
                None if tensor is None else tensor.place,
            )


def _structure(model: OnnxModel, view: View) -> Iterator[Finding]:
    for key, value in model.metadata.items():
        if what := program_in(key) or program_in(value):
            reason = f"The metadata {printable(key)!r} holds {what}."
            yield view.finding("metadata.program", reason)
    yield from _operators(model, view)
    yield from _functions(model, view)
    if model.sparse_elements > MAX_SPARSE_ELEMENTS:
        reason = f"A sparse tensor unfolds to {model.sparse_elements} elements."
        yield view.finding("onnx.too_large", reason)
    for operator, size in constant_bombs(view.data):
        reason = f"The operator {operator} makes {size} elements out of constants."
        yield view.finding("onnx.constant_bomb", reason)
    for name in model.unknown_fields:
        yield view.finding("onnx.unknown_field", f"The field {name} is not known.")


def _operators(model: OnnxModel, view: View) -> Iterator[Finding]:
    own = {(function.domain, function.name) for function in model.functions}
    for domain, operator in sorted(model.operators):
        name = f"{printable(domain)}::{printable(operator)}" if domain else printable(operator)
        if (domain, operator) in HOST_OPERATORS:
            yield view.finding(
                "onnx.host_operator", f"The operator {name} reaches out of the model."
            )
        elif domain not in STANDARD_DOMAINS and (domain, operator) not in own:
            yield view.finding(
                "onnx.custom_domain", f"The operator {name} is not one that onnxruntime brings."
            )


def _functions(model: OnnxModel, view: View) -> Iterator[Finding]:
    for function in model.functions:
        if function.domain in STANDARD_DOMAINS:
            yield view.finding(
                "onnx.function_shadow",
                f"The function {printable(function.name)!r} takes the name space of the standard "
                "operators.",
            )
    keys = [(function.domain, function.name, function.overload) for function in model.functions]
    if len(set(keys)) != len(keys):
        yield view.finding("onnx.ambiguous", "The model defines one function twice.")
        return
    size = expanded_nodes(model)
    if size is None:
        yield view.finding("onnx.function_bomb", "A function of the model calls itself.")
    elif size > MAX_EXPANDED_NODES:
        reason = f"The model's functions unfold to more than {MAX_EXPANDED_NODES} nodes."
        yield view.finding("onnx.function_bomb", reason)


def expanded_nodes(model: OnnxModel) -> int | None:
    """How many nodes are left once every call is replaced; None where that never ends.

    Capped a little above MAX_EXPANDED_NODES. Overloads of one name count together: which one a
    call takes depends on its types.
    """
    bodies: dict[tuple[str, str], list[OnnxFunction]] = {}
    for function in model.functions:
        bodies.setdefault((function.domain, function.name), []).append(function)
    sizes: dict[tuple[str, str], int] = {}
    # Depth first with a stack of our own: an attacker chooses how long the chain of calls is.
    for root in bodies:
        stack = [(root, False)]
        active: set[tuple[str, str]] = set()
        while stack:
            key, done = stack.pop()
            calls: Counter[tuple[str, str]] = Counter()
            for body in bodies[key]:
                calls.update({k: n for k, n in body.calls.items() if k in bodies})
            if done:
                active.discard(key)
                total = sum(body.nodes for body in bodies[key])
                total += sum(n * sizes[k] for k, n in calls.items())
                sizes[key] = min(total, MAX_EXPANDED_NODES + 1)
            elif key not in sizes:
                if key in active:
                    return None
                active.add(key)
                stack.append((key, True))
                if any(k in active for k in calls):
                    return None
                stack.extend((k, False) for k in calls if k not in sizes)
    total = sum(n * sizes.get(key, 0) for key, n in model.main_calls.items())
    return min(model.nodes + total, MAX_EXPANDED_NODES + 1)


def _runtime(checked: Checked, model: OnnxModel, view: View) -> Iterator[Finding]:
    match checked.result:
        case "ok":
            inputs = tuple(value.name for value in model.inputs)
            outputs = tuple(value.name for value in model.outputs)
            if (checked.inputs, checked.outputs) != (inputs, outputs):
                yield view.finding(
                    "onnx.reader_mismatch",
                    "onnxruntime sees other inputs or outputs than the file's structure shows.",
                )
        case "refused":
            reason = f"onnxruntime refuses the model: {_words(checked)}."
            yield view.finding("onnx.invalid", reason)
        case "limit":
            reason = f"Opening the model went past a limit: {_words(checked)}."
            yield view.finding("scan.not_evaluated", reason)
        case "crash":
            reason = f"The checker crashed on the model: {_words(checked)}."
            yield view.finding("scan.not_evaluated", reason)
        case "unsupported":
            reason = f"onnxruntime does not support the model: {_words(checked)}."
            yield view.finding("scan.not_evaluated", reason)
        case "changed":
            yield view.finding("scan.not_evaluated", "The file changed while it was scanned.")
        case _:
            reason = f"The checker could not run: {_words(checked)}."
            yield view.finding("scan.not_evaluated", reason)


def _words(checked: Checked) -> str:
    return printable(checked.detail, 300).rstrip(".") or "no reason given"
