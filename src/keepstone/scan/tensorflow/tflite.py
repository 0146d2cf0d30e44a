"""TFLite: operators, buffers, and the archive of labels that may follow the model.

Promise: clean means that every operator is one that TFLite brings, or one of TensorFlow's that
only computes; that every part lies inside the file; and that no tensor is larger than the buffer
it says it fills.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3; lite/delegates/flex/kernel.cc
(a Flex operator is what the NodeDef in its options says, whatever its own name).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from keepstone.core.finding import Finding
from keepstone.scan.archive.zip import problems, unpacked
from keepstone.scan.archive.zipdir import ends_as_zip, read_zip
from keepstone.scan.formats import UNKNOWN, identify
from keepstone.scan.pickle.opcodes import resembles_importing_pickle
from keepstone.scan.rules import printable
from keepstone.scan.tensorflow.flatbuffer import Flat, FlatError, Table
from keepstone.scan.tensorflow.graph import BY_ATTRIBUTE
from keepstone.scan.tensorflow.ops import FILES, HOST, Op, standing
from keepstone.scan.texts import program_in
from keepstone.scan.view import View

# BuiltinOperator: the last that is known, and those that only name others.
_LAST_BUILTIN = 209
_IMPOSSIBLE = 1000
_CUSTOM, _DELEGATE, _PLACEHOLDER, _CUSTOM_CALL = 32, 51, 127, 173
# Custom operators of TFLite's own libraries and of MediaPipe, which only compute.
_KNOWN = frozenset(
    {
        *("TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc", "NumericVerify", "Rfft2d"),
        *("RandomUniform", "RandomStandardNormal", "Multinomial", "Bucketize", "Irfft2d"),
        *("Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "Resampler"),
        *("TransformTensorBilinear", "TransformLandmarks", "Landmarks2TransformMatrix", "Roll"),
        *("Landmarks2TransformMatrixV2", "Affine", "CombinedNonMaxSuppression", "HashTableV2"),
        *("SignalFft", "SignalRfft", "SignalIrfft", "SignalWindow", "SignalFramer", "SignalPCAN"),
    }
)
_COMPILED = "edgetpu-custom-op"
# Bits of one element of each TensorType with a fixed width.
_BITS = {
    0: 32,
    1: 16,
    2: 32,
    3: 8,
    4: 64,
    6: 8,
    7: 16,
    8: 64,
    9: 8,
    10: 64,
    11: 128,
    12: 64,
    15: 32,
    16: 16,
    17: 4,
    18: 16,
}
_WORDS = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{2,}")
_SLACK = 1 << 16
_PICKLES = re.compile(rb"\x80[\x02-\x05]|[(c]\w+\n")


def scan_tflite(view: View) -> Iterator[Finding]:
    """Judge one TFLite file. No finding means clean."""
    model = _Model(view)
    try:
        yield from model.judge()
    except FlatError as error:
        offset = error.offset if view.member is None else None
        yield view.finding(f"tflite.{error.word}", error.reason, offset)
        return
    if ends_as_zip(view.data):
        yield from _archive(view, model.flat.reach)
        return
    rest = view.data[model.flat.reach :]
    if any(rest[_SLACK:]):
        yield view.finding("tflite.hidden", f"{len(rest)} bytes follow the model.")
    elif _holds_pickle(bytes(rest[:_SLACK]), view):
        yield view.finding("tflite.hidden", "A pickle follows the model.")


@dataclass(slots=True)
class _Model:
    """One walk over a model: the sizes of its buffers, and its operators' codes."""

    view: View
    flat: Flat = field(init=False)
    buffers: list[int] = field(default_factory=list)
    codes: list[tuple[int, str]] = field(default_factory=list)
    said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.flat = Flat(self.view.data)

    def judge(self) -> Iterator[Finding]:
        root = self.flat.root()
        version = root.number(0, 4)
        if version != 3:
            yield self.view.finding("tflite.unknown", f"The version {version} is not known.")
        for buffer in root.tables(4):
            self.buffers.append(self.buffer(buffer))
        for code in root.tables(1):
            self.codes.append((max(code.number(0, 1), code.number(3, 4)), code.text(1)))
        for builtin, custom in self.codes:
            yield from self.operator(builtin, custom)
        for subgraph in root.tables(2):
            yield from self.subgraph(subgraph)
        for entry in root.tables(6):
            entry.text(0)
            if entry.number(1, 4) >= len(self.buffers):
                raise FlatError("malformed", "Metadata names a buffer that is not there.", entry.at)
        if what := program_in(root.text(3)):
            yield self.view.finding("metadata.program", f"The description holds {what}.")

    def buffer(self, buffer: Table) -> int:
        """The size of a buffer, inside of the model's tables or behind them."""
        offset, size = buffer.number(1, 8), buffer.number(2, 8)
        # 0 and 1 stand for a buffer that lies in its table.
        if offset <= 1:
            return buffer.vector(0, 1)[1]
        if offset + size > len(self.view.data):
            raise FlatError("malformed", "A buffer lies outside of the file.", buffer.at)
        self.flat.reach = max(self.flat.reach, offset + size)
        return size

    def operator(self, builtin: int, custom: str) -> Iterator[Finding]:
        name = printable(custom)
        if builtin == _CUSTOM_CALL or (builtin == _CUSTOM and not custom):
            yield self.view.finding("tflite.custom_operator", "An operator calls what has no name.")
        elif builtin == _CUSTOM and custom.startswith("Flex"):
            met = Op.HOST if custom[4:] in BY_ATTRIBUTE else standing(custom[4:])
            if met in (Op.HOST, Op.FILES):
                reason = f"The operator {name} is TensorFlow's, and reaches out of the graph."
                yield self.view.finding("tflite.host_operator", reason)
            elif met is Op.UNKNOWN:
                yield self.view.finding("tflite.unknown", f"The operator {name} is not known.")
        elif builtin == _CUSTOM and custom == _COMPILED:
            yield self.view.finding("tflite.unknown", "The model is compiled for an Edge TPU.")
        elif builtin == _CUSTOM and custom not in _KNOWN:
            yield self.view.finding("tflite.custom_operator", f"The operator {name} is custom.")
        elif not 0 <= builtin < _IMPOSSIBLE:
            raise FlatError("malformed", f"There is no operator {builtin}.", 0)
        elif builtin in (_DELEGATE, _PLACEHOLDER) or builtin > _LAST_BUILTIN:
            yield self.view.finding("tflite.unknown", f"The operator {builtin} is not known.")

    def subgraph(self, subgraph: Table) -> Iterator[Finding]:
        subgraph.text(4)
        count = 0
        for tensor in subgraph.tables(0):
            count += 1
            self.tensor(tensor)
        for side in (1, 2):
            self.indices(subgraph, side, count)
        for operator in subgraph.tables(3):
            yield from self.node(operator, count)

    def indices(self, table: Table, index: int, count: int) -> None:
        if any(not -1 <= number < count for number in table.numbers(index)):
            raise FlatError("malformed", "A tensor is named that is not there.", table.at)

    def tensor(self, tensor: Table) -> None:
        shape, kind, buffer = tensor.numbers(0), tensor.number(1, 1), tensor.number(2, 4)
        tensor.text(3)
        if buffer >= len(self.buffers):
            raise FlatError("malformed", "A tensor names a buffer that is not there.", tensor.at)
        if len(shape) > 64 or any(length < 0 for length in shape):
            raise FlatError("malformed", "A tensor has an impossible shape.", tensor.at)
        # A sparse tensor (field 6) holds fewer elements than its shape says.
        held = self.buffers[buffer]
        needed = -(-prod(shape) * _BITS.get(kind, 0) // 8)
        if held and needed > held and not tensor.place(6):
            raise FlatError("malformed", "A tensor is larger than its buffer.", tensor.at)

    def node(self, operator: Table, count: int) -> Iterator[Finding]:
        index = operator.number(0, 4)
        if index >= len(self.codes):
            raise FlatError("malformed", "An operator has no code.", operator.at)
        for side in (1, 2):
            self.indices(operator, side, count)
        offset, size = operator.number(9, 8), operator.number(10, 8)
        if offset > 1 and offset + size > len(self.view.data):
            raise FlatError("malformed", "An operator's options lie outside.", operator.at)
        builtin, custom = self.codes[index]
        if builtin == _CUSTOM and custom.startswith("Flex"):
            options = self.view.data[offset : offset + size] if offset > 1 else operator.raw(5)
            yield from self.flex(custom, bytes(options[: 1 << 20]))

    def flex(self, custom: str, options: bytes) -> Iterator[Finding]:
        """What the options say counts: they hold the NodeDef that is run."""
        words = {word.decode() for word in _WORDS.findall(options)}
        # A length may stand before a name, and look like a letter of it.
        words |= {word[1:] for word in words}
        for name in sorted(words & (HOST | FILES)):
            if name not in self.said:
                self.said.add(name)
                reason = f"The options of {printable(custom)} hold TensorFlow's {name}."
                yield self.view.finding("tflite.host_operator", reason)
        if options and custom[4:] not in words and custom not in self.said:
            self.said.add(custom)
            reason = f"The options of {printable(custom)} are of another operator."
            yield self.view.finding("tflite.unknown", reason)


def _archive(view: View, reach: int) -> Iterator[Finding]:
    """Labels and vocabularies that TFLite's metadata keeps in an archive behind the model."""
    listing = read_zip(view.data)
    yield from problems(view, listing)
    for entry in listing.entries:
        if entry.header < reach:
            yield view.finding("tflite.hidden", "A member lies in the model.", None, entry.name)
        content, rule, why = unpacked(view, entry)
        if why:
            yield view.finding(rule, why, None, entry.name)
        elif not _is_text(content, view):
            yield from view.inside(entry.name, content)


def _holds_pickle(rest: bytes, view: View) -> bool:
    """Tables that are not read here may end behind what was: so a pickle may begin anywhere."""
    places = [found.start() for found in _PICKLES.finditer(rest)][:200]
    return any(resembles_importing_pickle(memoryview(rest)[at:], view.allowance) for at in places)


def _is_text(content: memoryview, view: View) -> bool:
    if identify(content, view.allowance) != UNKNOWN:
        return False
    try:
        text = bytes(content).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return "\x00" not in text and not program_in(text)
