"""A Keras configuration: every object it names, at any depth, wherever it lies.

Promise: clean means that every class and function that a reader would look up is Keras' own
building block, no object carries code, and none reads a file or an address. Losses, metrics,
optimisers and what wraps other objects are looked at like layers: the walk knows no places, only
the form of a saved object.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.allowance import Allowance
from keepstone.scan.keras.names import (
    Standing,
    class_standing,
    function_standing,
    spec_standing,
)
from keepstone.scan.pickle.opcodes import resembles_importing_pickle
from keepstone.scan.rules import printable
from keepstone.scan.strictjson import read_json
from keepstone.scan.tensorflow.ops import Op, call_standing, standing
from keepstone.scan.view import View

MAX_NODES = 2_000_000
# Layers whose vocabulary may be the path of a file: CVE-2025-12058.
_LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"})
_ADDRESS = re.compile(r"\s*(https?|ftp|gs|s3|hdfs|file|abfss?|wasbs?)://|\\\\\w", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{40,}={0,2}\s*")
# `marshal` writes a code object as 'c', with or without the bit for a reference.
_CODE = (b"\xe3\x00\x00\x00", b"c\x00\x00\x00", b"\xe3\x01\x00\x00", b"\xe3\x02\x00\x00")


def judge_text(view: View, raw: bytes, place: str) -> Iterator[Finding]:
    """Judge the JSON text of a configuration. `place` says where it lies."""
    try:
        document = read_json(raw)
    except ValueError as error:
        reason = f"The configuration cannot be read: {error}."
        yield view.finding("keras.malformed", reason, None, place)
        return
    if document.repeated:
        reason = f"The configuration names {printable(document.repeated[0])!r} twice."
        yield view.finding("keras.ambiguous", reason, None, place)
    yield from judge_config(view, document.value, place)


def judge_config(view: View, config: Any, place: str) -> Iterator[Finding]:
    """Judge a configuration that is already read."""
    stack, left = [config], MAX_NODES
    said: set[tuple[str, str]] = set()
    while stack:
        node = stack.pop()
        left -= 1
        if left < 0:
            yield view.unseen("The configuration is larger than the limit.", place)
            return
        if isinstance(node, dict):
            for rule, reason in _object(node):
                if rule and (rule, reason) not in said:
                    said.add((rule, reason))
                    yield view.finding(rule, f"{printable(reason, 200)}.", None, place)
            stack.extend(reversed(node.values()))
        elif isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, str) and (what := _carried(node)):
            yield view.finding(*what, None, place)


def _object(node: dict[str, Any]) -> Iterator[Standing]:
    """What a table says, where it has the form of a saved object or of an argument."""
    yield from _arguments(node)
    if "class_name" not in node:
        return
    name, module, config = node["class_name"], node.get("module"), node.get("config")
    if not isinstance(name, str):
        yield Standing("keras.malformed", "The class of an object is no text")
    elif name == "function":
        yield function_standing(config, module)
    elif name == "__typespec__":
        # Where the fields stand depends on the version.
        inner = config if isinstance(config, dict) else {}
        found = node.get("spec_name", inner.get("name", inner.get("spec_name")))
        yield spec_standing(found, module or inner.get("module"))
    else:
        yield class_standing(name, module, node.get("registered_name"))
        if isinstance(config, dict):
            yield from _layer(name, config)


def _layer(name: str, config: dict[str, Any]) -> Iterator[Standing]:
    if name in _LOOKUPS and isinstance(config.get("vocabulary"), str):
        where = config["vocabulary"]
        yield Standing("keras.reads", f"The layer {name} reads its vocabulary from {where!r}")
    elif name == "TFSMLayer":
        where = str(config.get("filepath"))
        yield Standing("keras.reads", f"The layer {name} loads the SavedModel {where!r}")
    elif name in ("TFOpLambda", "SlicingOpLambda"):
        yield _call(config.get("function"))
    elif name == "TensorFlowOpLayer":
        yield _operation(config.get("node_def"))


def _call(function: Any) -> Standing:
    if isinstance(function, str):
        met = call_standing(function)
        if met is Op.ALLOWED:
            return Standing()
        rule = "keras.import" if met is Op.HOST else "keras.custom_object"
        return Standing(rule, f"A layer calls TensorFlow's {function!r}")
    return Standing("keras.malformed", "A layer calls what is no name")


def _operation(definition: Any) -> Standing:
    """The node that a TensorFlowOpLayer holds, as JSON in a text or as a table."""
    if isinstance(definition, str):
        try:
            definition = read_json(definition.encode()).value
        except ValueError:
            definition = None
    operator = definition.get("op") if isinstance(definition, dict) else None
    if not isinstance(operator, str):
        return Standing("keras.custom_object", "A layer holds an operator that cannot be read")
    met = standing(operator)
    if met is Op.ALLOWED:
        return Standing()
    rule = "keras.import" if met is Op.HOST else "keras.custom_object"
    return Standing(rule, f"A layer holds TensorFlow's operator {operator!r}")


def _arguments(node: dict[str, Any]) -> Iterator[Standing]:
    for key, value in node.items():
        if isinstance(value, str) and _ADDRESS.match(value):
            yield Standing("keras.reads", f"The argument {key!r} names {value!r}")
    kind = node.get("function_type")
    if kind in ("lambda", "function", "raw") and "function" in node and "class_name" not in node:
        yield Standing("keras.lambda", "A layer is made of a function that the file carries")


def _carried(text: str) -> tuple[str, str] | None:
    """Code or a pickle in base64, which no reader asks for where it is not."""
    if len(text) < 40 or _BASE64.fullmatch(text[:200]) is None:
        return None
    try:
        raw = base64.b64decode(text[:1_000_000], validate=False)
    except (binascii.Error, ValueError):
        return None
    if raw.startswith(_CODE):
        return "keras.lambda", "A text is a code object in base64."
    if raw[:1] == b"\x80" and resembles_importing_pickle(memoryview(raw), Allowance(50_000)):
        return "keras.lambda", "A text is a pickle in base64."
    return None
