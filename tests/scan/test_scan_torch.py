"""torch's files: what its loader reads is judged, weights are stepped over, programs are held."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.report import FileReport
from keepstone.scan.rules import verdict
from keepstone.scan.scanner import judge as judge_view
from keepstone.scan.scanner import scan_file
from keepstone.scan.torch.export import is_plain_arithmetic
from keepstone.scan.torch.legacy import is_legacy
from keepstone.scan.torch.script import operators
from keepstone.scan.view import View

EVIL = b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[bytes], FileReport]:
    def scan(data: bytes) -> FileReport:
        (tmp_path / "file").write_bytes(data)
        return scan_file(tmp_path / "file")

    return scan


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


def tensor(
    key: str = "0", count: int = 2, call: bytes = b"torch._utils\n_rebuild_tensor_v2"
) -> bytes:
    """A pickle of one float tensor, as torch writes it."""
    name = key.encode()
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    storage += b"X" + struct.pack("<I", len(name)) + name
    storage += b"X\x03\x00\x00\x00cpuK" + bytes([count]) + b"tQ"
    rest = b"K\x00K" + bytes([count]) + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02c" + call + b"\n(" + storage + rest + b"."


def archive(*more: tuple[str, bytes], pickled: bytes | None = None, folder: str = "m") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        first = tensor() if pickled is None else pickled
        for name, data in ((f"{folder}/data.pkl", first), *more):
            file.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


NOTES = (("m/byteorder", b"little"), ("m/version", b"3\n"), ("m/.data/serialization_id", b"0123"))
WEIGHTS = ("m/data/0", bytes(8))


def test_a_checkpoint_is_clean(judge: Callable[[bytes], FileReport]) -> None:
    report = judge(archive(WEIGHTS, *NOTES))
    assert (report.format, report.outcome) == ("torch", Outcome.CLEAN)


def test_weights_are_never_searched(judge: Callable[[bytes], FileReport]) -> None:
    weights = b"os.system eval(1) cposix\nsystem\n" + bytes(100) + EVIL + b"PK\x05\x06"
    assert judge(archive(("m/data/0", weights))).outcome is Outcome.CLEAN
    # But they are not a whole pickle from end to end.
    assert judge(archive(("m/data/0", EVIL))).outcome is Outcome.FLAGGED


@pytest.mark.parametrize(
    "data",
    [
        archive(WEIGHTS, pickled=EVIL),
        archive(WEIGHTS, ("m/DATA.pkl", EVIL)),
        archive(WEIGHTS, ("other/data.pkl", EVIL)),
        archive(WEIGHTS, ("other/data.pkl", tensor())),
        archive(WEIGHTS, ("m/extra.pkl", EVIL)),
        archive(WEIGHTS, pickled=tensor(call=b"torch\nload")),
        archive(WEIGHTS, pickled=tensor(call=b"torch._utils\n_rebuild_tensor_v9")),
        archive(WEIGHTS, pickled=tensor().replace(b"storage", b"unknown")),
    ],
)
def test_what_torch_would_read_or_run_is_flagged(
    judge: Callable[[bytes], FileReport], data: bytes
) -> None:
    assert judge(data).outcome is Outcome.FLAGGED


@pytest.mark.parametrize(
    "data",
    [
        archive(*NOTES),
        archive(("m/data/0", bytes(7))),
        archive(WEIGHTS, ("m/readme", b"\x01\x02\xff")),
        archive(WEIGHTS, ("m/version", b"\x00" * 65)),
    ],
    ids=["no storage", "a short storage", "a member nobody knows", "an odd note"],
)
def test_what_is_not_whole_is_not_evaluated(
    judge: Callable[[bytes], FileReport], data: bytes
) -> None:
    assert judge(data).outcome is Outcome.NOT_EVALUATED


def test_the_checksum_of_weights_counts(judge: Callable[[bytes], FileReport]) -> None:
    data = bytearray(archive(WEIGHTS))
    data[data.find(b"m/data/0") + len("m/data/0")] ^= 1
    report = judge(bytes(data))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "checksum" in report.findings[0].message


# Before 1.6 -----------------------------------------------------------------------------------


def legacy(main: bytes | None = None, keys: object = ("0",), rest: bytes | None = None) -> bytes:
    pickles = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)]
    pickles += [pickle.dumps({"little_endian": True}, 2)]
    pickles += [tensor().replace(b"tQ", b"NtQ") if main is None else main]
    pickles += [pickle.dumps(list(keys), 2)]  # type: ignore[call-overload]
    return b"".join(pickles) + (struct.pack("<Q", 2) + bytes(8) if rest is None else rest)


def test_a_legacy_file_is_clean_to_its_end(judge: Callable[[bytes], FileReport]) -> None:
    assert is_legacy(memoryview(legacy()))
    assert judge(legacy()).outcome is Outcome.CLEAN
    assert judge(legacy() + b"more").outcome is Outcome.NOT_EVALUATED
    assert judge(legacy()[:-1]).outcome is Outcome.NOT_EVALUATED
    assert judge(legacy(keys=("1",))).outcome is Outcome.NOT_EVALUATED
    assert judge(legacy(main=EVIL)).outcome is Outcome.FLAGGED
    for cut in (20, 60, 150):
        assert judge(legacy()[:cut]).outcome is not Outcome.CLEAN


def test_a_legacy_file_that_is_a_tar_as_well_is_flagged(
    judge: Callable[[bytes], FileReport],
) -> None:
    # torch tries tar before it reads a pickle: the first name of the archive is a pickle.
    info = tarfile.TarInfo("\x80\x02N.")
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1"
    ) as tar:
        tar.addfile(info)
    report = judge(out.getvalue())
    assert report.format == "pickle"
    assert "file.polyglot" in rules(report)


# TorchScript ------------------------------------------------------------------------------------


def script(code: str, *more: tuple[str, bytes]) -> bytes:
    module = b"\x80\x02c__torch__\nM\n)\x81}X\x08\x00\x00\x00training\x88sb."
    members = (("m/constants.pkl", b"\x80\x02)."), ("m/code/__torch__.py", code.encode()))
    return archive(*members, *more, pickled=module)


GOOD_CODE = (
    "class M(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    return torch.relu(x)\n"
)


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        (GOOD_CODE, None),
        (GOOD_CODE.replace("torch.relu(x)", 'torch.relu(x) # torch.save("x")'), None),
        (GOOD_CODE.replace("torch.relu(x)", "ops.prim.NumToTensor(1)"), None),
        (
            GOOD_CODE.replace("torch.relu(x)", 'torch.from_file("/etc/passwd", False, 9)'),
            "operator",
        ),
        (GOOD_CODE.replace("torch.relu(x)", 'torch.save(x, "/tmp/x")'), "operator"),
        (GOOD_CODE.replace("torch.relu(x)", "ops.aten.save(x)"), "operator"),
        (GOOD_CODE.replace("torch.relu(x)", "ops . evil . run(x)"), "custom_operator"),
        (GOOD_CODE.replace("Tensor)", "__torch__.torch.classes.evil.Run)"), "custom_operator"),
    ],
)
def test_script_is_held_to_operators_that_compute(
    judge: Callable[[bytes], FileReport], code: str, rule: str | None
) -> None:
    report = judge(script(code))
    assert rules(report) == ({f"torch.{rule}"} if rule else set())


def test_what_lies_beside_the_code_is_judged(judge: Callable[[bytes], FileReport]) -> None:
    assert judge(script(GOOD_CODE, ("m/code/run.sh", b"id"))).outcome is Outcome.FLAGGED
    assert judge(script(GOOD_CODE, ("m/code/a.debug_pkl", EVIL))).outcome is Outcome.FLAGGED
    # Only in an archive of code does `__torch__` name its own classes.
    module = b"\x80\x02c__torch__\nM\n)\x81."
    assert judge(archive(WEIGHTS, pickled=module)).outcome is Outcome.FLAGGED


def test_no_operator_of_the_list_reaches_out() -> None:
    for name in ("save", "from_file", "load"):
        assert f"aten::{name}" not in operators()
    assert not any("rpc" in name for name in operators())
    assert {"aten::add", "aten::linear", "prim::NumToTensor"} <= operators()


# Exported programs ----------------------------------------------------------------------------


def exported(
    target: str = "torch.ops.aten.relu.default", text: str = "s0 + 1", **more: object
) -> bytes:
    node = {"target": target, "inputs": [], "outputs": []}
    sizes = [{"as_expr": {"expr_str": text, "hint": None}}]
    program = {"graph_module": {"graph": {"nodes": [node], "sizes": sizes}}, **more}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("m/archive_format", "pt2")
        file.writestr("m/models/model.json", json.dumps(program))
        file.writestr("m/data/weights/weight_0", bytes(8))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (exported(), None),
        (exported("_operator.add"), None),
        (exported("torch.sym_max"), None),
        (exported("math.ceil"), None),
        (exported("torch.serialization.os.system"), "operator"),
        (exported("torch.ops.aten.from_file.default"), "operator"),
        (exported("_operator.attrgetter"), "operator"),
        (exported("torch.ops.evil.run.default"), "custom_operator"),
        (exported(text="__import__('os').system('id')"), "expression"),
        (exported(guards_code=["L['x'].size()[0] <= 8"]), None),
        (exported(guards_code=["exec('id')"]), "expression"),
    ],
)
def test_a_program_is_held_to_operators_and_arithmetic(
    judge: Callable[[bytes], FileReport], data: bytes, rule: str | None
) -> None:
    report = judge(data)
    assert report.format == "pt2"
    assert rules(report) == ({f"torch.{rule}"} if rule else set())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Symbol('s77', positive=True, integer=True)", True),
        ("Max(1, 2*s0) // 3 + FloorDiv(u1, 2)", True),
        ("1.5e3*s1", True),
        ("().__class__", False),
        ("s0.func", False),
        ("open('x')", False),
        ("lambda: 1", False),
        ("Symbol('a') or exec", False),
        ("[c for c in s0]", False),
        ("s0;s1", False),
    ],
)
def test_arithmetic_is_plain(text: str, plain: bool) -> None:
    assert is_plain_arithmetic(text) is plain


# Properties -----------------------------------------------------------------------------------

_SEEDS = [
    archive(WEIGHTS, pickled=EVIL),
    legacy(main=EVIL),
    script(GOOD_CODE.replace("relu", "from_file")),
    exported("torch.serialization.os.system"),
]


@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
    st.integers(0, 2000),
)
def test_any_change_of_an_attack_ends_in_a_verdict(
    seed: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(seed)
    for position, byte in edits:
        data[position % len(data)] = byte
    for piece in (bytes(data), seed[:cut]):
        found = list(judge_view(View("file", memoryview(piece), Allowance(), judge_view)))
        assert not any("failed" in item.message for item in found)
        if piece == seed:
            assert verdict(found) is Outcome.FLAGGED
