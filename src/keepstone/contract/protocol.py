"""The Open Inference Protocol v2 on the wire, and the plain `/predict` form beside it.

A codec is compiled once per model. Decoding turns bytes into tensors that their contract has
checked, and refuses all else by code. JSON here has no NaN or infinity. Binary tensors follow
the protocol's binary extension: a JSON header of `Inference-Header-Content-Length` bytes, then
the tensors, little-endian, in the header's order.

Source: https://github.com/kserve/open-inference-protocol (REST), and the extension
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

Raises InputError: `request.not_json`, `request.malformed`, `request.unsupported`,
`request.unknown_input`, `request.missing_input`, `request.unknown_output`, `request.bad_dtype`,
`request.bad_shape`, `request.not_finite`, `request.out_of_range`; and OperationalError
`model.not_finite`, `model.bad_output` where the model's answer cannot be written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from keepstone.contract import elements
from keepstone.contract.schema import MAX_RANK, MAX_TENSORS, DType, ModelContract, TensorSpec
from keepstone.contract.validate import NUMPY, Array, TensorCheck
from keepstone.errors import InputError, OperationalError

VERSION = "1"
MAX_ID = 128

# Up to so many elements, looking at them in Python is quicker than calling numpy.
FEW = 256

_UNSUPPORTED = ("shared_memory_region", "classification")
_encode = msgspec.json.Encoder().encode
_EMPTY: Mapping[str, Any] = {}


class _Input(Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: dict[str, Any] | None = None


class _Output(Struct, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(Struct, forbid_unknown_fields=True):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] | None = None


class _FloatInput(Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class _FloatRequest(Struct, forbid_unknown_fields=True):
    inputs: list[_FloatInput]


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_floats = msgspec.json.Decoder(_FloatRequest).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_rows = msgspec.json.Decoder(list[dict[str, Raw]]).decode


class OutputChoice(Struct, frozen=True):
    name: str
    binary: bool


class InferRequest(Struct, frozen=True):
    """What was asked: checked inputs by name, and how to answer.

    `outputs` None means every output, as JSON.
    """

    inputs: dict[str, Array]
    id: str | None = None
    outputs: tuple[OutputChoice, ...] | None = None


class InferCodec:
    """Reads requests for one model and writes its answers. Holds no state between calls."""

    def __init__(self, model: str, contract: ModelContract) -> None:
        self.model = model
        self.contract = contract
        self._checks = {spec.name: TensorCheck(spec) for spec in contract.inputs}
        self._outputs = {spec.name: spec for spec in contract.outputs}
        self._prefixes = {spec.name: _output_prefix(spec) for spec in contract.outputs}
        only = contract.inputs[0] if len(contract.inputs) == 1 else None
        # The common request, one FP32 input and nothing else, is read in a single pass.
        self._single = only if only is not None and only.datatype is DType.FP32 else None
        self._single_check = self._checks[contract.inputs[0].name]
        named = _encode({"model_name": model, "model_version": VERSION})
        self._head = named[:-1]

    # Reading

    def decode_infer(self, body: bytes, header_length: int | None = None) -> InferRequest:
        """Read an inference request. `header_length` is that of the binary extension, if sent."""
        if header_length is None:
            if self._single is not None:
                fast = self._decode_single(body)
                if fast is not None:
                    return fast
            return self._decode(body, memoryview(b""))
        if not 0 < header_length <= len(body):
            raise InputError(
                "request.malformed", "Inference-Header-Content-Length does not fit the body."
            )
        return self._decode(body[:header_length], memoryview(body)[header_length:])

    def _decode_single(self, body: bytes) -> InferRequest | None:
        # Anything out of the ordinary returns None and takes the general way, which decides.
        spec = self._single
        try:
            inputs = _decode_floats(body).inputs
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if spec is None or len(inputs) != 1:
            return None
        sent = inputs[0]
        if sent.name != spec.name or sent.datatype != "FP32":
            return None
        if not _is_shape(sent.shape) or math.prod(sent.shape) != len(sent.data):
            return None
        check = self._single_check
        if len(sent.data) > FEW:
            values = elements.from_list(DType.FP32, sent.data, spec.name).reshape(sent.shape)
            check(values)
        elif check.holds(sent.shape, sent.data):
            values = np.array(sent.data, np.float32).reshape(sent.shape)
        else:
            return None
        return InferRequest({spec.name: values})

    def _decode(self, header: bytes, rest: memoryview) -> InferRequest:
        try:
            request = _decode_request(header)
        except msgspec.ValidationError as error:
            raise InputError("request.malformed", f"Not an inference request: {error}.") from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise elements.not_json(error, header) from error
        if request.id is not None and (len(request.id) > MAX_ID or not request.id.isprintable()):
            raise InputError("request.malformed", f"The id is not {MAX_ID} printable characters.")
        if len(request.inputs) > MAX_TENSORS:
            raise InputError("request.malformed", f"More than {MAX_TENSORS} inputs were sent.")
        inputs: dict[str, Array] = {}
        for sent in request.inputs:
            check = self._checks.get(sent.name)
            if check is None:
                raise _unknown("input", sent.name, self._checks)
            if sent.name in inputs:
                raise InputError("request.malformed", f"Input {sent.name!r} was sent twice.")
            inputs[sent.name], rest = _read_tensor(sent, check.spec, rest)
            check(inputs[sent.name])
        if rest.nbytes:
            raise InputError("request.malformed", f"{rest.nbytes} bytes belong to no input.")
        self._check_complete(inputs)
        return InferRequest(inputs, request.id, self._read_outputs(request))

    def _check_complete(self, inputs: Mapping[str, Array]) -> None:
        for name in self._checks:
            if name not in inputs:
                raise InputError("request.missing_input", f"Input {name!r} is missing.")

    def _read_outputs(self, request: _Request) -> tuple[OutputChoice, ...] | None:
        whole = _flag(request.parameters or _EMPTY, "binary_data_output")
        if request.outputs is None:
            if not whole:
                return None
            return tuple(OutputChoice(name, True) for name in self._outputs)
        chosen: dict[str, OutputChoice] = {}
        for output in request.outputs:
            if output.name not in self._outputs:
                raise _unknown("output", output.name, self._outputs)
            if output.name in chosen:
                raise InputError("request.malformed", f"Output {output.name!r} is named twice.")
            parameters = output.parameters or _EMPTY
            _refuse_unsupported(parameters)
            binary = _flag(parameters, "binary_data", whole)
            chosen[output.name] = OutputChoice(output.name, binary)
        return tuple(chosen.values())

    def decode_predict(self, body: bytes) -> dict[str, Array]:
        """Read the plain form: `{"inputs": ...}` or `{"instances": ...}`.

        Either holds nested lists for a model's only input (`[[5.1, 3.5]]`), a list of rows by
        feature name (`[{"width": 5.1}]`), or an object of inputs by name.
        """
        try:
            sent = _decode_object(body)
        except msgspec.ValidationError as error:
            raise _bad_predict() from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise elements.not_json(error, body) from error
        if len(sent) != 1 or not sent.keys() <= {"inputs", "instances"}:
            raise _bad_predict()
        raw = bytes(next(iter(sent.values()))).strip()
        if raw.startswith(b"{"):
            inputs = self._by_name(raw)
        else:
            if len(self._checks) != 1:
                names = ", ".join(self._checks)
                raise InputError("request.missing_input", f"Name each input: {names}.")
            spec = self._single_check.spec
            rows = raw[1:].lstrip().startswith(b"{")
            read = _read_rows if rows else _read_plain
            inputs = {spec.name: read(spec, raw)}
        for name, values in inputs.items():
            self._checks[name](values)
        return inputs

    def _by_name(self, raw: bytes) -> dict[str, Array]:
        try:
            sent = _decode_object(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise elements.not_json(error, raw) from error
        for name in sent:
            if name not in self._checks:
                raise _unknown("input", name, self._checks)
        inputs = {name: _read_plain(self._checks[name].spec, data) for name, data in sent.items()}
        self._check_complete(inputs)
        return inputs

    # Writing

    def encode_infer(
        self, request: InferRequest, outputs: Mapping[str, Array]
    ) -> tuple[bytes, int | None]:
        """Write an answer: its body and, where a tensor is binary, the length of its header."""
        head = self._head
        if request.id is not None:
            head += b',"id":' + _encode(request.id)
        parts: list[bytes] = []
        tail: list[bytes] = []
        if request.outputs is None:
            for name, values in outputs.items():
                parts.append(self._json_output(name, values))
        else:
            for choice in request.outputs:
                values = self._found(choice.name, outputs)
                if not choice.binary:
                    parts.append(self._json_output(choice.name, values))
                    continue
                data = elements.to_bytes(values)
                tail.append(data)
                parts.append(
                    b'%b%b,"parameters":{"binary_data_size":%d}}'
                    % (self._prefix(choice.name, values), _shape(values.shape), len(data))
                )
        body = b'%b,"outputs":[%b]}' % (head, b",".join(parts))
        return (body + b"".join(tail), len(body)) if tail else (body, None)

    def encode_predict(self, outputs: Mapping[str, Array]) -> bytes:
        """Write the plain answer: `{"model": ..., "outputs": {name: nested lists}}`."""
        parts = []
        for name, values in outputs.items():
            parts.append(b"%b:%b" % (_encode(name), _json_data(name, values, values.tolist())))
        return b'{"model":%b,"outputs":{%b}}' % (_encode(self.model), b",".join(parts))

    def _found(self, name: str, outputs: Mapping[str, Array]) -> Array:
        values = outputs.get(name)
        if values is None:
            raise OperationalError("model.bad_output", f"The model gave no output {name!r}.")
        return values

    def _prefix(self, name: str, values: Array) -> bytes:
        prefix, dtype = self._prefixes.get(name, (b"", None))
        if dtype != values.dtype and not (
            dtype is not None and dtype.kind == "O" and values.dtype.kind in "OUS"
        ):
            raise OperationalError(
                "model.bad_output", f"The model's output {name!r} is not as its contract says."
            )
        return prefix

    def _json_output(self, name: str, values: Array) -> bytes:
        return b'%b%b,"data":%b}' % (
            self._prefix(name, values),
            _shape(values.shape),
            _json_data(name, values, values.ravel().tolist()),
        )


@lru_cache(maxsize=256)
def _shape(shape: tuple[int, ...]) -> bytes:
    return _encode(shape)


def _output_prefix(spec: TensorSpec) -> tuple[bytes, np.dtype[Any]]:
    plain = _encode({"name": spec.name, "datatype": str(spec.datatype)})
    return plain[:-1] + b',"shape":', NUMPY[spec.datatype]


def _json_data(name: str, values: Array, plain: list[Any]) -> bytes:
    data = _encode(plain)
    # The encoder writes NaN and infinity as null, which a number can never be.
    if values.dtype.kind == "f" and b"null" in data:
        raise OperationalError(
            "model.not_finite", f"The model's output {name!r} holds a NaN or an infinity."
        )
    return data


def _is_shape(shape: Sequence[int]) -> bool:
    return len(shape) <= MAX_RANK and min(shape, default=1) > 0


def _read_tensor(sent: _Input, spec: TensorSpec, rest: memoryview) -> tuple[Array, memoryview]:
    if sent.datatype != spec.datatype:
        raise InputError(
            "request.bad_dtype",
            f"Input {spec.name!r} must be {spec.datatype}, not {sent.datatype[:16]!r}.",
        )
    if not _is_shape(sent.shape):
        raise InputError("request.bad_shape", f"Input {spec.name!r} has no valid shape.")
    parameters = sent.parameters or _EMPTY
    _refuse_unsupported(parameters)
    size = parameters.get("binary_data_size")
    if (size is None) == (sent.data is UNSET):
        raise InputError(
            "request.malformed", f"Input {spec.name!r} needs either data or binary_data_size."
        )
    shape = tuple(sent.shape)
    if size is None:
        return _shaped(spec, elements.from_json(spec.datatype, sent.data, spec.name), shape), rest  # type: ignore[arg-type]
    if type(size) is not int or not 0 <= size <= rest.nbytes:
        raise InputError(
            "request.malformed", f"The binary_data_size of input {spec.name!r} does not fit."
        )
    return elements.from_bytes(spec.datatype, rest[:size], shape, spec.name), rest[size:]


def _shaped(spec: TensorSpec, values: Array, shape: tuple[int, ...]) -> Array:
    # Data is flat, or nested exactly as its shape says; every other nesting is ambiguous.
    if values.shape != shape and (values.ndim != 1 or values.size != math.prod(shape)):
        raise InputError(
            "request.bad_shape", f"The data of input {spec.name!r} does not fill its shape."
        )
    return values.reshape(shape)


def _read_plain(spec: TensorSpec, raw: bytes | Raw) -> Array:
    if not bytes(raw).lstrip().startswith(b"["):
        raise InputError("request.bad_shape", f"Input {spec.name!r} is not a list.")
    return elements.from_json(spec.datatype, bytes(raw), spec.name)


def _read_rows(spec: TensorSpec, raw: bytes) -> Array:
    if not spec.features:
        raise InputError(
            "request.malformed", f"Input {spec.name!r} has no feature names: send lists."
        )
    try:
        rows = _decode_rows(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad_predict() from error
    wanted = set(spec.features)
    for row in rows:
        for name in row:
            if name not in wanted:
                raise _unknown("feature", name, spec.features)
        if len(row) != len(wanted):
            missing = next(name for name in spec.features if name not in row)
            raise InputError("request.missing_input", f"Feature {missing!r} is missing.")
    joined = b",".join(
        b"[%b]" % b",".join(bytes(row[name]) for name in spec.features) for row in rows
    )
    return elements.from_json(spec.datatype, b"[%b]" % joined, spec.name)


def _flag(parameters: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InputError("request.malformed", f"The parameter {name} is not true or false.")
    return value


def _refuse_unsupported(parameters: Mapping[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if name in parameters:
            raise InputError("request.unsupported", f"The parameter {name} is not supported.")


def _unknown(what: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> InputError:
    names = ", ".join(list(known)[:8])
    return InputError(
        f"request.unknown_{'output' if what == 'output' else 'input'}",
        f"The model has no {what} {name[:64]!r}.",
        f"Known: {names}.",
    )


def _bad_predict() -> InputError:
    return InputError(
        "request.malformed",
        'The body is neither {"inputs": ...} nor {"instances": ...}.',
        "See /openapi.json.",
    )
