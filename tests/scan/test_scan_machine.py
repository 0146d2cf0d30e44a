"""The symbolic machine against the real loaders: what either does, it tells."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import pickletools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.formats import identify
from keepstone.scan.pickle.machine import Machine, renamed
from keepstone.scan.pickle.opcodes import Cause
from keepstone.scan.pickle.values import UNKNOWN, Global, Made, Value
from keepstone.scan.rules import verdict
from keepstone.scan.scanner import judge
from keepstone.scan.view import View


def outcome(data: bytes) -> Outcome:
    return verdict(judge(View("file", memoryview(data), Allowance(), judge)))


class Told:
    """Takes everything, and keeps what it was told."""

    def __init__(self) -> None:
        self.imports: set[tuple[str, str]] = set()
        self.calls: list[str] = []
        self.open = False  # something could not be told, or loaders differ

    def imported(self, module: str, name: str, at: int) -> Value:
        self.imports.add((module, name))
        return Global(module, name, None)

    def computed(self, parts: tuple[Value, Value], at: int) -> Value:
        self.open = True
        return UNKNOWN

    def extension(self, code: int, at: int) -> Value:
        self.open = True
        return UNKNOWN

    def called(self, how: str, callee: Value, args: Value, at: int) -> Value:
        self.calls.append(str(callee))
        return Made(callee if isinstance(callee, Global) else None, None, args)

    def built(self, target: Value, state: Value, at: int) -> None: ...

    def grown(self, target: Value, how: str, values: list[Value], at: int) -> None: ...

    def persistent(self, name: Value, at: int) -> Value:
        return UNKNOWN

    def odd(self, reason: str, at: int) -> None:
        self.open = True


class Asked:
    """What a loader asked for; every name leads to the same harmless thing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def find(self, module: str, name: str) -> object:
        self.asked.append((module, name))
        return lambda *_, **__: None


class InC(pickle.Unpickler):
    def __init__(self, data: bytes, asked: Asked) -> None:
        super().__init__(io.BytesIO(data))
        self._asked = asked

    def find_class(self, module: str, name: str) -> object:
        return self._asked.find(module, name)

    def persistent_load(self, _: object) -> str:
        return "os"


class InPython(pickle._Unpickler):  # type: ignore[name-defined]  # the readable twin
    def __init__(self, data: bytes, asked: Asked) -> None:
        super().__init__(io.BytesIO(data))
        self._asked = asked

    def find_class(self, module: str, name: str) -> object:
        return self._asked.find(module, name)

    def persistent_load(self, _: object) -> str:
        return "os"


_LINES = st.sampled_from(
    [
        *(b"os", b"system", b"0", b"1", b" 1", b"0x1", b"1\x00z", b"'os'", b'"os" ', b"", b"01"),
        *(b"-1", b"1L", b"o\\x73", b"o\\u0073", b"00", b"1.5", b"1_0", b"+1", b"\xff"),
    ]
)
# These two allocate what they are told to, in the real loaders.
_OPCODES = [
    item for item in pickletools.opcodes if item.name not in ("BYTEARRAY8", "LONG_BINPUT", "PUT")
]
_CALLING = [b"cos\nsystem\n", b"\x8c\x02os\x8c\x06system\x93", b"(", b")", b"}", b"\x85", b"R"]
_CALLING += [b"b", b"\x81", b"\x92", b"o", b"ios\nsystem\n", b"N", b"2", b"0", b"1", b"t", b"\x94"]
_CALLING += [b"h\x00", b"q\x00", b"\x86", b"e", b"a", b"u", b"s", b"\x90", b"\x91", b"d", b"l"]
_CALLING += [b"]", b"\x8f", b"K\x01", b"U\x02os", b"Q", b".", b"\x80\x02", b"\x80\x04"]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Opcodes with arguments of the right form, in any order; perhaps cut short."""
    data = b""
    for item in draw(st.lists(st.sampled_from(_OPCODES), min_size=2, max_size=14)):
        data += item.code.encode("latin1")
        if item.arg is None:
            continue
        if item.arg.n == pickletools.UP_TO_NEWLINE:
            lines = 2 if "pair" in item.arg.name else 1
            data += b"".join(draw(_LINES) + b"\n" for _ in range(lines))
        elif item.arg.n >= 0:
            data += draw(st.sampled_from([b"\x00", b"\x01", b"\x02"])) + bytes(item.arg.n - 1)
        else:
            text = draw(st.sampled_from([b"", b"os", b"system", b"\x80"]))
            width = {-2: 1, -3: 4, -4: 4, -5: 8}[item.arg.n]
            data += len(text).to_bytes(width, "little") + text
    return data[: draw(st.integers(len(data) // 2, len(data)))] if draw(st.booleans()) else data


@settings(max_examples=1500)
@given(st.one_of(streams(), st.lists(st.sampled_from(_CALLING), max_size=20).map(b"".join)))
@example(b"\x80\x02cos\nsystem\n(S'true'\ntR.")
@example(b"(cos\nsystem\nS'true'\no.")
@example(b"(S'true'\nios\nsystem\n.")
@example(b"(1cos\nsystem\n.")
@example(b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00\x8c\x02os\x8c\x06system\x93.")
@example(b"cos\nsystem!")
def test_what_either_loader_asks_for_is_told(data: bytes) -> None:
    told = Told()
    machine = Machine(memoryview(data), told)
    machine.run(0, 10_000)
    for loader in (InC, InPython):
        asked = Asked()
        with contextlib.suppress(Exception):
            loader(data, asked).load()
        protocol_names = {renamed(module, name, 0) for module, name in asked.asked}
        for module, name in asked.asked:
            known = (module, name) in told.imports or renamed(module, name, 0) in told.imports
            assert known or told.open, (loader, protocol_names)


@settings(max_examples=500)
@given(st.one_of(streams(), st.binary(max_size=200)))
def test_what_the_c_loader_loads_to_its_end_is_not_broken(data: bytes) -> None:
    if b"\x96" in data:
        return
    told, asked = Told(), Asked()
    cause = Machine(memoryview(data), told).run(0, 10_000)
    try:
        InC(data, asked).load()
    except Exception:
        return
    assert cause is Cause.STOP or told.open or asked.asked


@given(st.binary(max_size=300))
def test_any_bytes_end(data: bytes) -> None:
    told = Told()
    machine = Machine(memoryview(data), told)
    assert machine.run(0, 1000) in Cause
    assert 0 <= machine.at <= len(data)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


_SEEDS = [pickle.dumps([Payload(), {"a": 1}], protocol) for protocol in range(6)]
_SEEDS += [pickle.dumps(collections.OrderedDict(a=[Payload()]), protocol) for protocol in range(6)]


@settings(max_examples=500)
@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
)
def test_a_mutated_payload_that_fires_is_never_clean(
    seed: bytes, edits: list[tuple[int, int]]
) -> None:
    data = bytearray(seed)
    for position, byte in edits:
        data[position % len(data)] = byte
    if b"\x96" in data:
        return
    asked = Asked()
    with contextlib.suppress(Exception):
        InC(bytes(data), asked).load()
    names = {renamed(module, name, 0) for module, name in asked.asked}
    if names & {("posix", "system"), ("os", "system")}:
        found = outcome(bytes(data))
        assert found is not Outcome.CLEAN
        # A first name that cannot be one makes it no pickle to us: its loader stops there too.
        assert found is Outcome.FLAGGED or identify(memoryview(bytes(data))) != "pickle"
