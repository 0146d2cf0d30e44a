"""One pass over an ONNX file: every message that can hold a tensor is entered.

Source: onnx.proto, IR version 13 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from keepstone.contract.onnx_model import (
    ExternalTensor,
    OnnxFunction,
    OnnxLimits,
    OnnxModel,
    ValueInfo,
)
from keepstone.contract.wire import Field, Kind, Message, Reader, signed


def _message(name: str, wanted: tuple[int, ...], kinds: dict[Kind, tuple[int, ...]]) -> Message:
    fields = {number: kind for kind, numbers in kinds.items() for number in numbers}
    return Message(name, fields, frozenset(wanted))


_V, _VS, _B, _BS = Kind.VARINT, Kind.VARINTS, Kind.BYTES, Kind.BYTES_LIST
MODEL = _message(
    "ModelProto",
    (1, 2, 7, 8, 14, 20, 25),
    {_V: (1, 5), _B: (2, 3, 4, 6, 7), _BS: (8, 14, 20, 25, 26)},
)
OPSET = _message("OperatorSetIdProto", (1, 2), {_V: (2,), _B: (1,)})
_ENTRY = _message("StringStringEntryProto", (1, 2), {_B: (1, 2)})
_TRAINING = _message("TrainingInfoProto", (1, 2), {_B: (1, 2), _BS: (3, 4)})
GRAPH = _message(
    "GraphProto", (1, 5, 11, 12, 15), {_B: (2, 10), _BS: (1, 5, 11, 12, 13, 14, 15, 16)}
)
NODE = _message("NodeProto", (4, 5, 7), {_B: (3, 4, 6, 7, 8), _BS: (1, 2, 5, 9, 10)})
ATTRIBUTE = _message(
    "AttributeProto",
    (5, 6, 10, 11, 22, 23),
    {
        Kind.FIXED32: (2,),
        Kind.FIXED32S: (7,),
        _V: (3, 20),
        _VS: (8,),
        _B: (1, 4, 5, 6, 13, 14, 21, 22),
        _BS: (9, 10, 11, 15, 23),
    },
)
TENSOR = _message(
    "TensorProto",
    (8, 13, 14),
    {
        Kind.FIXED32S: (4,),
        Kind.FIXED64S: (10,),
        _V: (2, 14),
        _VS: (1, 5, 7, 11),
        _B: (3, 8, 9, 12),
        _BS: (6, 13, 16),
    },
)
_SPARSE = _message("SparseTensorProto", (1, 2, 3), {_VS: (3,), _B: (1, 2)})
_FUNCTION = _message(
    "FunctionProto", (1, 7, 10, 11, 13), {_B: (1, 8, 10, 13), _BS: (4, 5, 6, 7, 9, 11, 12, 14)}
)
VALUE = _message("ValueInfoProto", (1, 2), {_B: (1, 2, 3), _BS: (4,)})
_TYPE = _message("TypeProto", (1, 4, 5, 7, 8, 9), {_B: (1, 4, 5, 6, 7, 8, 9)})
_TENSOR_TYPE = _message("TypeProto.Tensor", (1, 2), {_V: (1,), _B: (2,)})
_SHAPE = _message("TensorShapeProto", (1,), {_BS: (1,)})
_DIMENSION = _message("TensorShapeProto.Dimension", (1, 2), {_V: (1,), _B: (2, 3)})
_TYPE_WORDS = {1: "tensor", 4: "sequence", 5: "map", 7: "opaque", 8: "sparse", 9: "optional"}
_EXTERNAL_KEPT = 100

# Kind, element type, shape: as in ValueInfo.
_Type = tuple[str, int, tuple[int | None, ...] | None]


@dataclass(slots=True)
class Walk:
    """One pass over one file: the tallies, and where in the file the walk stands."""

    reader: Reader
    limits: OnnxLimits
    operators: Counter[tuple[str, str]] = field(default_factory=Counter)
    functions: list[OnnxFunction] = field(default_factory=list)
    external: list[ExternalTensor] = field(default_factory=list)
    external_count: int = 0
    external_reach: dict[str, int] = field(default_factory=dict)
    place: list[str] = field(default_factory=list)
    level: int = 0
    depth: int = 0
    nodes: int = 0
    tensors: int = 0
    tensor_bytes: int = 0
    sparse_elements: int = 0

    def model(self) -> OnnxModel:
        reader, ir_version, producer = self.reader, 0, ""
        opsets: list[tuple[str, int]] = []
        metadata: dict[str, str] = {}
        budget = self.limits.max_metadata
        graph: _MainGraph | None = None
        training = False
        functions: list[Field] = []
        for item in reader.fields(MODEL, 0, len(reader.data)):
            match item.number:
                case 1:
                    ir_version = signed(item.value)
                case 2:
                    producer = reader.text(item, self.limits.max_name)
                case 7:
                    graph = _MainGraph()
                    self.graph(item, "graph", graph)
                case 8:
                    opsets.append(self.opset(item))
                case 14:
                    budget -= item.end - item.start
                    if budget < 0:
                        raise reader.error("too_large", "The metadata is larger than the limit.")
                    self.metadata(item, metadata)
                case 20:
                    training = True
                    self.training(item)
                case 25:
                    functions.append(item)
                    if len(functions) > self.limits.max_functions:
                        raise reader.error("too_large", "There are too many functions.")
        if graph is None:
            raise reader.error("malformed", "The file holds no graph.")
        inputs = _distinct(reader, graph.inputs, "input")
        main_calls = Counter(self.operators)
        for item in functions:
            self.function(item)
        return OnnxModel(
            ir_version=ir_version,
            producer=producer,
            opsets=tuple(opsets),
            inputs=tuple(value for value in inputs if value.name not in graph.initializers),
            outputs=_distinct(reader, graph.outputs, "output"),
            operators=self.operators,
            main_calls=main_calls,
            functions=tuple(self.functions),
            external_tensors=tuple(self.external),
            external_count=self.external_count,
            external_reach=self.external_reach,
            depth=self.depth,
            nodes=self.nodes,
            tensors=self.tensors,
            tensor_bytes=self.tensor_bytes,
            sparse_elements=self.sparse_elements,
            has_training=training,
            metadata=metadata,
            unknown_fields=tuple(sorted(reader.unknown)),
        )

    @contextmanager
    def within(self, word: str) -> Iterator[None]:
        self.place.append(word)
        yield
        self.place.pop()

    def name(self, item: Field) -> str:
        return self.reader.text(item, self.limits.max_name)

    def opset(self, item: Field) -> tuple[str, int]:
        domain, version = "", 0
        for part in self.reader.fields(OPSET, item.start, item.end):
            if part.number == 1:
                domain = _default_domain(self.name(part))
            else:
                version = signed(part.value)
        return domain, version

    def entry(self, item: Field, limit: int) -> tuple[str, str]:
        texts = {1: "", 2: ""}
        for part in self.reader.fields(_ENTRY, item.start, item.end):
            texts[part.number] = self.reader.text(part, limit)
        return texts[1], texts[2]

    def metadata(self, item: Field, metadata: dict[str, str]) -> None:
        key, value = self.entry(item, self.limits.max_metadata)
        if key in metadata:
            raise self.reader.error("ambiguous", f"The metadata names {key[:64]!r} twice.")
        metadata[key] = value

    def training(self, item: Field) -> None:
        for part in self.reader.fields(_TRAINING, item.start, item.end):
            if part.number in (1, 2):
                self.graph(part, "training_info", None)

    def graph(self, item: Field, word: str, main: _MainGraph | None) -> None:
        self.level += 1
        self.depth = max(self.depth, self.level)
        if self.level > self.limits.max_depth:
            raise self.reader.error(
                "too_deep", f"Graphs are nested deeper than {self.limits.max_depth} levels."
            )
        with self.within(word):
            for part in self.reader.fields(GRAPH, item.start, item.end):
                match part.number:
                    case 1:
                        self.node(part)
                    case 5:
                        name = self.tensor(part, "initializer")
                        if main is not None:
                            main.initializers.add(name)
                    case 15:
                        name = self.sparse(part, "sparse_initializer")
                        if main is not None:
                            main.initializers.add(name)
                    case 11 | 12 if main is not None:
                        values = main.inputs if part.number == 11 else main.outputs
                        values.append(self.value(part))
                        if len(values) > self.limits.max_values:
                            raise self.reader.error("too_large", "There are too many values.")
        self.level -= 1

    def node(self, item: Field) -> tuple[str, str]:
        self.nodes += 1
        if self.nodes > self.limits.max_nodes:
            raise self.reader.error("too_large", "There are more nodes than the limit allows.")
        operator, domain = "", ""
        attributes: list[Field] = []
        for part in self.reader.fields(NODE, item.start, item.end):
            match part.number:
                case 4:
                    operator = self.name(part)
                case 5:
                    attributes.append(part)
                case 7:
                    domain = _default_domain(self.name(part))
        key = (domain, operator)
        self.operators[key] += 1
        if len(self.operators) > self.limits.max_operators:
            raise self.reader.error("too_large", "There are too many different operators.")
        if attributes:
            with self.within(f"node[{operator[:64]}]"):
                for part in attributes:
                    self.attribute(part)
        return key

    def attribute(self, item: Field) -> None:
        for part in self.reader.fields(ATTRIBUTE, item.start, item.end):
            match part.number:
                case 5 | 10:
                    self.tensor(part, "attribute")
                case 6 | 11:
                    self.graph(part, "subgraph", None)
                case 22 | 23:
                    self.sparse(part, "sparse_attribute")

    def tensor(self, item: Field, word: str) -> str:
        """Tally one TensorProto and return its name."""
        self.tensors += 1
        if self.tensors > self.limits.max_tensors:
            raise self.reader.error("too_large", "There are more tensors than the limit allows.")
        self.tensor_bytes += item.end - item.start
        name, target, external = "", "", False
        numbers = {"offset": "0", "length": "0"}
        for part in self.reader.fields(TENSOR, item.start, item.end):
            if part.number == 8:
                name = self.name(part)
            elif part.number == 13:
                # Entries alone already count: some readers do not look at data_location.
                external = True
                key, value = self.entry(part, 1 << 16)
                target = value if key == "location" else target
                if key in numbers:
                    numbers[key] = value
            elif part.number == 14 and part.value:
                # Any value but DEFAULT: readers cut the number to 32 bits before they compare.
                external = True
        if external:
            self.external_count += 1
            self.reach(target, numbers)
            if len(self.external) < _EXTERNAL_KEPT:
                place = ".".join([*self.place, word])
                self.external.append(ExternalTensor(name, place, target[:256], item.start))
        return name

    def reach(self, target: str, numbers: dict[str, str]) -> None:
        if len(self.external_reach) >= self.limits.max_external_files:
            raise self.reader.error("too_large", "The weights lie in too many files.")
        known = self.external_reach.get(target, 0)
        # onnx.proto: both are written as decimal texts.
        if known < 0 or not all(text.isdecimal() and len(text) < 20 for text in numbers.values()):
            self.external_reach[target] = -1
        else:
            self.external_reach[target] = max(known, sum(map(int, numbers.values())))

    def sparse(self, item: Field, word: str) -> str:
        """Tally one SparseTensorProto and return the name that its values carry."""
        name = ""
        dims: list[int] = []
        for part in self.reader.fields(_SPARSE, item.start, item.end):
            if part.number == 1:
                name = self.tensor(part, f"{word}.values")
            elif part.number == 2:
                self.tensor(part, f"{word}.indices")
            else:
                dims += self.dims(part, len(dims))
        if any(length < 0 for length in dims):
            raise self.reader.error("malformed", "A sparse tensor has a negative dimension.")
        self.sparse_elements = max(self.sparse_elements, math.prod(dims))
        return name

    def dims(self, item: Field, before: int) -> list[int]:
        found: list[int] = []
        for length in self.reader.numbers(item):
            found.append(length)
            if before + len(found) > self.limits.max_rank:
                raise self.reader.error("too_large", "A tensor has too many dimensions.")
        return found

    def function(self, item: Field) -> None:
        texts = {1: "", 10: "", 13: ""}
        before, outer = self.nodes, self.operators
        calls: Counter[tuple[str, str]] = Counter()
        self.operators = calls
        with self.within("function"):
            for part in self.reader.fields(_FUNCTION, item.start, item.end):
                match part.number:
                    case 1 | 10 | 13:
                        texts[part.number] = self.name(part)
                    case 7:
                        self.node(part)
                    case 11:
                        self.attribute(part)
        self.operators = outer
        self.operators.update(calls)
        domain = _default_domain(texts[10])
        self.functions.append(OnnxFunction(domain, texts[1], texts[13], self.nodes - before, calls))

    def value(self, item: Field) -> ValueInfo:
        found = ValueInfo("", "untyped", 0, None)
        for part in self.reader.fields(VALUE, item.start, item.end):
            if part.number == 1:
                found = replace(found, name=self.name(part))
            else:
                kind, element, shape = self.type(part)
                found = replace(found, kind=kind, element=element, shape=shape)
        return found

    def type(self, item: Field) -> _Type:
        found: _Type | None = None
        for part in self.reader.fields(_TYPE, item.start, item.end):
            if found is not None:
                raise self.reader.error("ambiguous", "A type names two types at once.")
            if part.number == 1:
                found = self.tensor_type(part)
            else:
                # Only tensors are served; what a sequence or map holds is not asked.
                found = _TYPE_WORDS[part.number], 0, None
        return found or ("untyped", 0, None)

    def tensor_type(self, item: Field) -> _Type:
        element, shape = 0, None
        for part in self.reader.fields(_TENSOR_TYPE, item.start, item.end):
            if part.number == 1:
                element = part.value
            else:
                shape = self.shape(part)
        return "tensor", element, shape

    def shape(self, item: Field) -> tuple[int | None, ...]:
        found: list[int | None] = []
        for part in self.reader.fields(_SHAPE, item.start, item.end):
            parts = list(self.reader.fields(_DIMENSION, part.start, part.end))
            if len(parts) > 1:
                raise self.reader.error("ambiguous", "A dimension is both fixed and named.")
            fixed = parts[0].number == 1 if parts else False
            found.append(signed(parts[0].value) if fixed else None)
            if len(found) > self.limits.max_rank:
                raise self.reader.error("too_large", "A tensor has too many dimensions.")
        return tuple(found)


@dataclass(slots=True)
class _MainGraph:
    """What the main graph takes and gives, and which of its inputs come with a value."""

    inputs: list[ValueInfo] = field(default_factory=list)
    outputs: list[ValueInfo] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)


def _distinct(reader: Reader, values: list[ValueInfo], side: str) -> tuple[ValueInfo, ...]:
    if len({value.name for value in values}) != len(values):
        raise reader.error("ambiguous", f"The graph names one {side} twice.")
    return tuple(values)


def _default_domain(domain: str) -> str:
    """The default domain has two spellings, the empty one and `ai.onnx`."""
    return "" if domain == "ai.onnx" else domain
