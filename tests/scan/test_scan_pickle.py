"""Pickles: every import that a real loader would ask for is named, whatever is done to hide it."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive import compressed, zipdir
from keepstone.scan.formats import identify
from keepstone.scan.pickle.opcodes import Cause, walk, walk_all
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import scan_file


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


Judge = Callable[..., FileReport]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """`judge(bytes)` scans a file with that content and a name that says nothing."""

    def scan(data: bytes, name: str = "file") -> FileReport:
        (tmp_path / name).write_bytes(data)
        return scan_file(tmp_path / name)

    return scan


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


def words(report: FileReport) -> str:
    return " ".join(item.message for item in report.findings)


@pytest.mark.parametrize("protocol", range(6))
def test_an_import_is_flagged_in_every_protocol(judge: Judge, protocol: int) -> None:
    report = judge(pickle.dumps(Payload(), protocol), "model.safetensors")
    assert (report.format, report.outcome) == ("pickle", Outcome.FLAGGED)
    assert "posix.system" in words(report)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_clean(judge: Judge, protocol: int) -> None:
    thing = {"a": [1, 2.5, "text", None, True, 1 << 70, b"bytes"], "b": {1, 2}, (3,): "x" * 5000}
    report = judge(pickle.dumps(thing, protocol))
    assert (report.format, report.outcome) == ("pickle", Outcome.CLEAN)


ATTACKS = {
    "odd numbers": b"I0x1\n0L0x10L\n0cos\nsystem\n(S'true'\ntR.",
    "inst": b"(S'true'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'true'\no.",
    "after stop": b"N." + b"cos\nsystem\n(S'true'\ntR.",
    "after many stops": b"N." * 100 + b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "broken after the import": b"\x80\x02cos\nsystem\nq\x00U\x04true\x85R\xff\xff",
    "no stop": b"\x80\x02cos\nsystem\n(S'true'\ntR",
    "wrong protocol number": b"\x80\x63cos\nsystem\n(S'true'\ntR.",
    "a frame that lies": b"\x80\x04\x95" + b"\xff" * 7 + b"\x00\x8c\x02os\x8c\x06system\x93.",
    "a last line without end": b"\x80\x02cos\nsystem!",
    "names through the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94000h\x00h\x01\x93.".replace(
        b"000", b"00"
    ),
    "dup": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + b"20.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_known_ways_past_scanners_are_flagged(judge: Judge, attack: str) -> None:
    report = judge(ATTACKS[attack])
    if attack == "wrong protocol number":
        # Not a pickle by its mark; nothing unknown is ever clean.
        assert report.outcome is not Outcome.CLEAN
        return
    assert report.outcome is Outcome.FLAGGED
    assert "os.system" in words(report)


@pytest.mark.parametrize(
    "attack",
    [
        # What a call gives may be a text.
        b"\x80\x04cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x01\x00\x00\x00O\x85R"
        b"X\x06\x00\x00\x00system\x86R\x8c\x02os\x93.",
        b"\x80\x04X\x01\x08\x00\x00" + b"a" * 2049 + b"\x8c\x01x\x93.",  # absurdly long
    ],
)
def test_computed_names_are_flagged_as_such(judge: Judge, attack: bytes) -> None:
    report = judge(attack)
    assert report.outcome is Outcome.FLAGGED
    assert "pickle.computed_import" in rules(report)


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x04Vo\\u0073\nVsystem\n\x93.",  # escapes in a text
        b"\x80\x04S'o\\x73'\nS'system'\n\x93.",
        b"\x80\x04S'os'\nS'system'\n\x93.",
        b"\x80\x02c__builtin__\neval\n.",  # names of Python 2
        b"\x80\x02ccommands\ngetoutput\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x15object.__reduce__.x.y\x93.",
    ],
)
def test_names_are_those_that_the_loader_makes_of_them(judge: Judge, attack: bytes) -> None:
    assert rules(judge(attack)) == {"pickle.dangerous_import"}


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x04\x8c\x02os\x8c\x03sys\x8c\x03tem\x86\x93.",  # a tuple is no name
        b"\x80\x04\x93.",  # nothing on the stack
        b"\x80\x04K\x01K\x02R.",  # a number is no callable
        b"\x80\x04K\x01}b.",  # nor does it have a state
        b"\x80\x04K\x01K\x02a.",
    ],
)
def test_where_every_loader_stops_the_pickle_is_broken(judge: Judge, attack: bytes) -> None:
    assert rules(judge(attack)) == {"pickle.broken"}


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x04\x8c\x02osp+1\n0N.",  # memo keys spelled oddly
        b"\x80\x04h\x05.",  # never put there
        b"I010\n.",
        b"L1_0L\n.",
        b"F1_0.5\n.",
        b"S'a' \n.",
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x00N.",
    ],
)
def test_what_loaders_read_differently_is_flagged(judge: Judge, attack: bytes) -> None:
    assert "pickle.ambiguous" in rules(judge(attack))


@pytest.mark.parametrize("attack", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])
def test_extension_codes_are_flagged(judge: Judge, attack: bytes) -> None:
    report = judge(b"\x80\x02" + attack + b")R.")
    assert "pickle.extension" in rules(report)
    assert "extension code 1" in words(report)


def test_dotted_attributes_are_named(judge: Judge) -> None:
    assert "os.path.join" in words(judge(b"\x80\x04\x8c\x02os\x8c\x09path.join\x93."))


def test_names_cannot_write_to_a_terminal(judge: Judge) -> None:
    report = judge(b"\x80\x04\x8c\x04o\x1b[2\x8c\x06system\x93.")
    assert report.outcome is Outcome.FLAGGED
    assert "\x1b" not in words(report)


def test_a_broken_pickle_without_imports_says_so(judge: Judge) -> None:
    report = judge(b"\x80\x04]\x94(K\x01K\x02")
    assert report.outcome is Outcome.NOT_EVALUATED
    assert rules(report) == {"pickle.broken"}


def test_plain_text_is_no_pickle(judge: Judge) -> None:
    for text in (
        b"cache\nbuild\ndist\n",
        b"import os\nprint(1)\n",
        b"index\nname\n",
        b"a,b\n1,2\n",
    ):
        assert identify(memoryview(text)) != "pickle"
        assert judge(text).outcome is not Outcome.FLAGGED


def test_opcodes_are_bounded() -> None:
    found = walk(memoryview(b"\x80\x04" + b"N" * 100), 0, 50)
    assert (found.cause, found.opcodes) == (Cause.LIMIT, 50)
    data = memoryview(b"N." * 100)
    assert [w.cause for w in walk_all(data, Allowance(10))][-1] is Cause.LIMIT


def test_the_opcode_limit_is_reported(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepstone.scan.view.Allowance", lambda: Allowance(20))
    report = judge(b"\x80\x04" + b"N0" * 100 + b"N.")
    assert rules(report) == {"scan.not_evaluated"}
    assert report.outcome is Outcome.NOT_EVALUATED


def test_a_million_names_give_a_bounded_report(judge: Judge) -> None:
    data = b"".join(b"c%d\nx\n0" % i for i in range(5000))
    report = judge(b"\x80\x02" + data + b"N.")
    assert report.outcome is Outcome.FLAGGED
    assert len(report.findings) <= 1001


# Against the real loader --------------------------------------------------------------------


class Recorder(pickle._Unpickler):  # type: ignore[name-defined]  # the readable twin of the C one
    """Loads for real, except that every name leads to the same harmless thing."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.asked: list[tuple[str, str]] = []

    def find_class(self, module: str, name: str) -> object:
        self.asked.append((module, name))
        return lambda *_, **__: None

    def get_extension(self, code: int) -> None:
        self.asked.append(("extension", str(code)))
        self.append(lambda *_: None)

    def persistent_load(self, _: object) -> None:
        return None


_SEEDS = [
    *(pickle.dumps(Payload(), protocol) for protocol in range(6)),
    *ATTACKS.values(),
    pickle.dumps([Payload(), {"a": Payload()}, np.ones(3)], 4),
    pickle.dumps([1 << 70, b"bytes", "text", {1, 2}, (1, (2, 3))], 2),
]
_PIECES = [
    *(b"(", b"0", b"1", b"2", b"N", b"t", b")", b"]", b"}", b"R", b"b", b"\x85", b"\x86", b"\x94"),
    *(b"\x8c\x02os", b"\x8c\x06system", b"\x93", b"cos\nsystem\n", b"ios\nsystem\n", b"o"),
    *(b"h\x00", b"h\x01", b"q\x00", b"p0\n", b"g0\n", b"S'os'\n", b"Vos\n", b"I0x1\n", b"\x82\x01"),
    *(b"\x80\x04", b"\x95\x04\x00\x00\x00\x00\x00\x00\x00", b".", b"Q", b"Px\n", b"\x81", b"\x92"),
]


@settings(max_examples=600)
@given(
    st.one_of(
        st.lists(st.sampled_from(_PIECES), max_size=25).map(b"".join),
        st.tuples(
            st.sampled_from(_SEEDS),
            st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
        ).map(lambda pair: edited(*pair)),
        st.binary(max_size=60),
    )
)
def test_what_a_loader_asks_for_is_always_reported(data: bytes) -> None:
    found = walk(memoryview(data))
    if b"\x96" in data:
        return  # BYTEARRAY8 allocates what it is told to, in the real loader
    real = Recorder(data)
    with contextlib.suppress(Exception):
        real.load()
    named = {(item.module, item.name) for item in found.imports}
    computed = any(item.module is None or item.name is None for item in found.imports)
    for module, name in real.asked:
        if module == "extension":
            assert any(item.opcode.startswith("EXT") for item in found.imports)
        else:
            assert (module, name) in named or computed


def edited(seed: bytes, edits: list[tuple[int, int]]) -> bytes:
    data = bytearray(seed)
    for position, byte in edits:
        data[position % len(data)] = byte
    return bytes(data)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_walk(data: bytes) -> None:
    assert len(list(walk_all(memoryview(data), Allowance()))) >= (1 if data else 0)
    identify(memoryview(data))


# Containers ---------------------------------------------------------------------------------


def archive(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, data in entries:
            file.writestr(zipfile.ZipInfo(name), data, compression)
    return out.getvalue()


EVIL, GOOD = pickle.dumps(Payload(), 2), pickle.dumps([1], 2)
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")


@pytest.mark.parametrize(
    "entries",
    [
        (("archive/data.pkl", EVIL),),
        (("archive/data.pkl", EVIL), ("archive/data.pkl", GOOD)),
        (("archive/data.pkl", GOOD), ("archive/data.pkl", EVIL)),
        (("archive/Data.PKL", EVIL), ("archive/data.pkl", GOOD)),
        (("archive/weights.bin", EVIL),),
    ],
    ids=["one", "first of two", "last of two", "decoy by letter case", "any name"],
)
def test_a_pickle_in_a_zip_is_flagged(judge: Judge, entries: tuple[tuple[str, bytes], ...]) -> None:
    report = judge(archive(*entries))
    assert report.format == ("zip" if entries[0][0].endswith("bin") else "torch")
    assert report.outcome is Outcome.FLAGGED
    assert "posix.system" in words(report)
    assert ("zip.ambiguous" in rules(report)) == (len(entries) == 2)
    assert [f.location.member for f in report.findings if f.rule == "pickle.dangerous_import"]


def test_a_plain_zip_is_as_clean_as_its_members(judge: Judge) -> None:
    members = (("one.pkl", GOOD), ("two.pkl", GOOD), ("folder/", b""))
    assert judge(archive(*members)).outcome is Outcome.CLEAN
    report = judge(archive(*members, ("odd", b"\x01\x02\xff")))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert [item.location.member for item in report.findings] == ["odd"]


def test_directories_that_differ_are_flagged(judge: Judge) -> None:
    data = archive(("archive/data.pkl", GOOD))
    report = judge(data.replace(b"archive/data.pkl", b"archive/evil.pkl", 1))
    assert "zip.ambiguous" in rules(report)


@pytest.mark.parametrize("length", [10, 40, 60, 120])
def test_a_cut_zip_is_not_evaluated(judge: Judge, length: int) -> None:
    report = judge(archive(("archive/data.pkl", GOOD))[:length])
    assert report.outcome is not Outcome.CLEAN
    # A reader that needs no directory finds the member all the same.
    assert judge(archive(("archive/data.pkl", EVIL))[:-40]).outcome is Outcome.FLAGGED


def test_entries_that_cannot_be_read_are_said(judge: Judge) -> None:
    data = bytearray(archive(("a", b"text" * 100), compression=zipfile.ZIP_DEFLATED))
    data[35] ^= 0xFF
    assert "checksum is wrong" in words(judge(bytes(data)))
    data = bytearray(archive(("a", b"text")))
    for at in (data.find(b"PK\x01\x02") + 10, 8):
        struct.pack_into("<H", data, at, 99)
    assert "method 99 is not known" in words(judge(bytes(data)))


def test_a_zip_bomb_is_bounded(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "MAX_UNPACKED", 1000)
    monkeypatch.setattr(zipdir, "MAX_ENTRIES", 5)
    bomb = archive(*((str(i), bytes(10**6)) for i in range(9)), compression=zipfile.ZIP_DEFLATED)
    report = judge(bomb)
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "unpacks to more" in words(report)
    assert "more than 5 members" in words(report)


def test_an_archive_in_an_archive_is_opened(judge: Judge) -> None:
    inner = archive(("data.pkl", EVIL))
    report = judge(archive(("inner.zip", gzip.compress(inner))))
    assert report.outcome is Outcome.FLAGGED
    (item,) = [item for item in report.findings if item.rule == "pickle.dangerous_import"]
    assert item.location.member == "inner.zip > (gzip) > data.pkl"


def test_containers_are_opened_to_a_depth(judge: Judge) -> None:
    data = EVIL
    for _ in range(14):
        data = gzip.compress(data)
    report = judge(data)
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "nested deeper" in words(report)


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_pickle_is_flagged(judge: Judge, pack: Callable[[bytes], bytes]) -> None:
    report = judge(pack(EVIL))
    assert report.outcome is Outcome.FLAGGED
    assert "posix.system" in words(report)
    whole = pack(GOOD * 100)
    cut = judge(whole[: len(whole) - 5])
    assert cut.outcome is Outcome.NOT_EVALUATED
    assert "breaks off" in words(cut)


def test_a_decompression_bomb_is_bounded(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "MAX_UNPACKED", 1000)
    for pack in (zlib.compress, gzip.compress, bz2.compress, lzma.compress):
        report = judge(pack(bytes(10**6)))
        assert report.outcome is Outcome.NOT_EVALUATED
        assert "more than the limit" in words(report)


@given(st.binary(max_size=120), st.sampled_from([b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x1f\x8b"]))
def test_any_container_ends_in_a_verdict(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, mark: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(mark + data)
    assert scan_file(path).outcome is not Outcome.CLEAN


def test_a_name_is_no_path_however_long_it_is(judge: Judge) -> None:
    for module in ("a" * 5000, "../../x", "python", "Ü", "a\x00b"):
        report = judge(b"\x80\x02c" + module.encode() + b"\nx\n.")
        assert report.outcome is Outcome.FLAGGED, module
        assert not any("scanner failed" in item.message for item in report.findings)
