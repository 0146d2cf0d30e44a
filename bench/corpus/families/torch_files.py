"""PyTorch's files: the zip archive, the legacy stream, and games with both.

What each reader takes is PyTorch's own: its zip reader looks names up without regard to case and
takes the first of two; Python's takes the last. Source: torch/serialization.py and
caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import CODE, COMMAND, EXPRESSION, Case, fail, good, need, tarred, zipped
from bench.corpus.opcodes import (
    EMPTY_DICT,
    LEGACY_MAGIC,
    call,
    name,
    number,
    pickled,
    several,
    shell,
    stacked,
    text,
)

_LOADER, _RESTRICTED = "torch.load", "torch.load restricted"
_BY_HAND = "zip pickle by hand"
_BAD = pickled(shell(), 2)
# torch refuses these, or takes the clean member; Python's zipfile does not.
_ZIPFILE_ONLY = frozenset(
    {
        *("two_pickles_bad_last", "case_folder", "other_prefix", "prepended", "prepended_archive"),
        *("appended_archive", "bzip2", "lzma", "in_record", "null_in_name", "backslash_name"),
        *("magic_hidden", "comment_holds_archive", "zip64_mismatch", "many_disks", "constants"),
    }
)


def _saved(torch: Any, value: object, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def _network(torch: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 3),
    )


def _parts(pickle_data: bytes) -> list[tuple[str, bytes]]:
    """The least that torch.load takes for a checkpoint."""
    return [
        ("archive/data.pkl", pickle_data),
        ("archive/byteorder", b"little"),
        ("archive/version", b"3\n"),
    ]


def _honest(seed: int) -> Iterator[Case]:
    torch = need("torch")
    net = _network(torch, seed)
    optimisers = {
        "sgd": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9),
        "adam": torch.optim.Adam(net.parameters(), 0.1),
        "adamw": torch.optim.AdamW(net.parameters(), 0.1),
        "rmsprop": torch.optim.RMSprop(net.parameters(), 0.1),
    }
    state = net.state_dict()
    yield good("state_dict.pt", _saved(torch, state), _RESTRICTED)
    yield good(
        "state_dict_legacy.pt",
        _saved(torch, state, _use_new_zipfile_serialization=False),
        _RESTRICTED,
    )
    yield good("state_dict.ckpt", _saved(torch, {"epoch": 3, "state_dict": state}), _RESTRICTED)
    yield good("plain_dict.bin", _saved(torch, dict(state)), _RESTRICTED)
    yield good("protocol_4.pt", _saved(torch, state, pickle_protocol=4), _LOADER)
    for slug, optimiser in optimisers.items():
        optimiser.zero_grad()
        net(torch.ones(2, 1, 4, 4)).sum().backward()
        optimiser.step()
        checkpoint = {
            "model": net.state_dict(),
            "optimizer": optimiser.state_dict(),
            "scheduler": torch.optim.lr_scheduler.StepLR(optimiser, 3).state_dict(),
            "epoch": 4,
            "loss": 0.25,
            "rng": torch.get_rng_state(),
        }
        yield good(f"checkpoint_{slug}.pt", _saved(torch, checkpoint), _RESTRICTED)
    for dtype in (
        "float16",
        "bfloat16",
        "int8",
        "uint8",
        "bool",
        "complex64",
        "float64",
        "int64",
        "float8_e4m3fn",
    ):
        tensor = torch.zeros(2, 3).to(getattr(torch, dtype))
        yield good(f"tensor_{dtype}.pt", _saved(torch, tensor), _RESTRICTED)
    base = torch.arange(12.0).reshape(3, 4)
    values = {
        "views": [base[1:], base.t(), base[::2]],
        "parameter": torch.nn.Parameter(base.clone()),
        "sparse": base.to_sparse(),
        "size_and_dtype": {
            "shape": torch.Size([1, 2]),
            "dtype": torch.float32,
            "device": torch.device("cpu"),
        },
        "nested_lists": [[base, (base, None)], {"x": {"y": base}}],
        "empty": torch.empty(0),
        "shared": {"a": base, "b": base},
    }
    for slug, value in values.items():
        yield good(f"{slug}.pt", _saved(torch, value), _RESTRICTED)
    yield good(
        "legacy_tensors.pth",
        _saved(torch, [base, base * 2], _use_new_zipfile_serialization=False),
        _RESTRICTED,
    )


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (EXPRESSION,)


def _plain(seed: int) -> Iterator[Case]:
    torch = need("torch")
    state = _network(torch, seed).state_dict()
    for slug, value in {
        "object": _Evil(),
        "beside_weights": {**state, "extra": _Evil()},
        "as_key": {_Evil(): 1},
        "in_optimizer": {"model": dict(state), "optimizer": {"state": {0: _Evil()}}},
    }.items():
        yield fail(f"zip_{slug}.pt", _saved(torch, value), "Evaluates text when loaded.", _LOADER)
        legacy = _saved(torch, value, _use_new_zipfile_serialization=False)
        yield fail(f"legacy_{slug}.pt", legacy, "Evaluates text when loaded.", _LOADER)
    magic = pickle.dumps(LEGACY_MAGIC, 2)
    version, system = pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)
    legacy_streams = {
        "in_magic": _BAD,
        "in_version": magic + _BAD,
        "in_system": magic + version + _BAD,
        "in_object": magic + version + system + _BAD + pickle.dumps([], 2),
        "in_keys": magic + version + system + pickle.dumps({}, 2) + _BAD,
        "magic_repeated": magic
        + version
        + system
        + pickle.dumps({}, 2)
        + pickle.dumps([], 2)
        + b"\x00" * 40,
    }
    for slug, data in legacy_streams.items():
        if slug != "magic_repeated":
            yield fail(f"legacy_{slug}.bin", data, f"Runs a shell command: {slug}.", _LOADER)
    hooked = torch.nn.Linear(2, 2)
    hooked._forward_hooks[0] = need("os").system
    yield fail(
        "module_with_hook.pt", _saved(torch, hooked), "Calls os.system on each forward.", "none"
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR.__new__(torch.optim.lr_scheduler.LambdaLR)
    scheduler.__dict__["lr_lambdas"] = [eval]
    yield fail(
        "scheduler_with_function.pt",
        _saved(torch, {"s": scheduler.__dict__}),
        "Evaluates the epoch at each step.",
        "none",
    )
    dataset = torch.utils.data.DataLoader([1], collate_fn=need("os").system)
    yield fail("data_loader.pt", _saved(torch, dataset), "Calls os.system on each batch.", "none")
    rebuilt = call(
        name("torch._utils", "_rebuild_tensor_v2"),
        shell(),
        number(0),
        several(),
        several(),
        b"\x89",
        EMPTY_DICT,
    )
    yield fail(
        "in_rebuild_arguments.pt",
        zipped(_parts(pickled(rebuilt, 2))),
        "Runs a shell command among a tensor's arguments.",
        _LOADER,
    )
    wrapped = call(
        name("torch._tensor", "_rebuild_from_type_v2"),
        name("os", "system"),
        name("os", "system"),
        several(text(COMMAND)),
        EMPTY_DICT,
    )
    yield fail(
        "rebuild_from_type.pt",
        zipped(_parts(pickled(wrapped, 2))),
        "Runs a shell command through torch's own rebuild function.",
        _LOADER,
    )
    storage = several(text("storage"), shell(), text("0"), text("cpu"), number(1)) + b"Q"
    yield fail(
        "in_persistent_id.pt",
        zipped(_parts(pickled(storage, 2))),
        "Runs a shell command in a storage's description.",
        _LOADER,
    )
    dotted = stacked("torch", "serialization.os.system") + text(COMMAND) + b"\x85R"
    yield fail(
        "dotted_through_torch.pt",
        zipped(_parts(pickled(dotted))),
        "Runs a shell command by a dotted name below torch.",
        _LOADER,
    )


def _end(data: bytes) -> int:
    return data.rfind(b"PK\x05\x06")


def _flip(data: bytes, mark: bytes, offset: int, value: bytes, which: int = 0) -> bytes:
    """`data` with `value` at `offset` behind the start of a header."""
    at = -1
    for _ in range(which + 1):
        at = data.index(mark, at + 1)
    return data[: at + offset] + value + data[at + offset + len(value) :]


def _games(seed: int) -> Iterator[Case]:
    clean = pickle.dumps({"a": 1}, 2)
    parts, bad = _parts(clean), _parts(_BAD)
    honest = zipped(parts)
    base = zipped(bad)
    games: dict[str, tuple[bytes, str]] = {
        "two_pickles_bad_first": (
            zipped([bad[0], *parts]),
            "torch takes the first of two data.pkl, Python's zipfile the last.",
        ),
        "two_pickles_bad_last": (
            zipped([*parts, bad[0]]),
            "Python's zipfile takes the last of two data.pkl.",
        ),
        "case_decoy": (
            zipped([("archive/Data.PKL", _BAD), *parts]),
            "torch's look-up ignores case and takes Data.PKL.",
        ),
        "case_folder": (
            zipped([("ARCHIVE/data.pkl", _BAD), *parts]),
            "torch's look-up ignores case and takes ARCHIVE/data.pkl.",
        ),
        "other_prefix": (
            zipped([(f"deep/er/{key.rpartition('/')[2]}", value) for key, value in bad]),
            "The folder in the archive has another name.",
        ),
        "no_extension_name": (
            zipped([("archive/data.pkl", _BAD), ("archive/version", b"3")]),
            "Only the least that torch asks for.",
        ),
        "flag_in_local_header": (
            _flip(base, b"PK\x03\x04", 6, b"\x01\x00"),
            "The local header alone says that the member is encrypted.",
        ),
        "flag_in_directory": (
            _flip(base, b"PK\x01\x02", 8, b"\x01\x00"),
            "The directory alone says that the member is encrypted.",
        ),
        "wrong_crc": (
            _flip(base, b"PK\x01\x02", 16, b"\x01\x02\x03\x04"),
            "The checksum is wrong: Python refuses the member.",
        ),
        "wrong_crc_local": (
            _flip(base, b"PK\x03\x04", 14, b"\x01\x02\x03\x04"),
            "The checksum in the local header is wrong.",
        ),
        "local_name_differs": (
            _flip(base, b"PK\x03\x04", 30, b"archive/data.bak"),
            "The local header names the member otherwise.",
        ),
        "directory_size_differs": (
            _flip(base, b"PK\x01\x02", 24, struct.pack("<I", 7)),
            "The directory says another size.",
        ),
        "method_unknown": (
            _flip(base, b"PK\x01\x02", 10, b"\x63\x00"),
            "The directory names a method that nobody knows.",
        ),
        "method_local_differs": (
            _flip(base, b"PK\x03\x04", 8, b"\x08\x00"),
            "The local header names another method.",
        ),
        "version_needed_high": (
            _flip(base, b"PK\x01\x02", 6, b"\xff\x00"),
            "The member claims to need a version of zip from the future.",
        ),
        "comment": (
            base[:-2] + struct.pack("<H", 9) + b"PK\x05\x06 end",
            "A comment looks like the end of the archive.",
        ),
        "comment_holds_archive": (
            honest[:-2] + struct.pack("<H", len(base)) + base,
            "A second archive lies in the comment of the first.",
        ),
        "prepended": (b"GIF89a" + bytes(30) + base, "Bytes lie in front of the archive."),
        "prepended_archive": (honest + base, "Two archives lie in one file."),
        "appended": (base + bytes(100), "Bytes follow the archive."),
        "appended_archive": (base + honest, "A clean archive follows a bad one."),
        "deflated": (zipped(bad, zipfile.ZIP_DEFLATED), "The pickle is compressed."),
        "bzip2": (zipped(bad, zipfile.ZIP_BZIP2), "The pickle is compressed by bzip2."),
        "lzma": (zipped(bad, zipfile.ZIP_LZMA), "The pickle is compressed by LZMA."),
        "no_directory": (
            base[: _end(base)],
            "The archive has no end: a streaming reader still finds the member.",
        ),
        "null_in_name": (
            base.replace(b"archive/data.pkl", b"archive/data.pk\x00"),
            "The name of the member holds a zero byte.",
        ),
        "unicode_path": (_unicode_path(), "An extra field gives the member another name."),
        "nested": (
            zipped([("inner.pt", base), ("archive/readme", b"x")]),
            "The archive lies in an archive.",
        ),
        "nested_thrice": (
            zipped([("a.zip", zipped([("b.zip", zipped([("c.pt", base)]))]))]),
            "The archive lies three archives deep.",
        ),
        "in_record": (
            zipped([*parts, ("archive/extra/attack.pkl", _BAD)]),
            "A second pickle lies among the records.",
        ),
        "constants": (
            zipped([*parts, ("archive/constants.pkl", _BAD), ("archive/code/x.py", b"")]),
            "A pickle lies where TorchScript keeps its constants.",
        ),
        "bytes_between": (
            _spaced(bad),
            "A member stands in the file that the directory does not name.",
        ),
        "zip64_mismatch": (_zip64(base), "The 64-bit end record says something else."),
        "many_disks": (
            base[: _end(base) + 4] + b"\x01\x00" + base[_end(base) + 6 :],
            "The archive claims to lie on several disks.",
        ),
        "streamed": (_streamed(), "The sizes stand behind the member."),
        "overlapping": (_overlapping(), "Two members share their bytes."),
        "backslash_name": (
            zipped([(key.replace("/", "\\"), value) for key, value in bad]),
            "The names hold backslashes.",
        ),
        "magic_hidden": (b"PK\x07\x08" + base, "The file begins as a split archive does."),
        "python_appended": (base + CODE.encode(), "Source follows the archive."),
    }
    for slug, (data, reason) in games.items():
        loader = _BY_HAND if slug in _ZIPFILE_ONLY else _LOADER
        yield fail(f"game_{slug}.pt", data, f"Runs a shell command. {reason}", loader)
    old = tarred(
        [
            ("sys_info", pickle.dumps({}, 2)),
            ("pickle", _BAD),
            ("storages", pickle.dumps(0, 2)),
            ("tensors", pickle.dumps(0, 2)),
        ]
    )
    yield fail(
        "oldest_tar.pt", old, "Runs a shell command, in torch's oldest format: a tar.", _LOADER
    )
    bad_storages = tarred([("storages", _BAD), ("tensors", _BAD), ("pickle", clean)])
    yield fail(
        "oldest_tar_storages.pt", bad_storages, "Runs a shell command in `storages`.", _LOADER
    )


def _unicode_path() -> bytes:
    parts = _parts(_BAD)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, content in parts:
            info = zipfile.ZipInfo(key)
            other = b"archive/readme.txt"
            value = b"\x01" + struct.pack("<I", zlib.crc32(key.encode())) + other
            info.extra = struct.pack("<HH", 0x7075, len(value)) + value
            archive.writestr(info, content)
    return out.getvalue()


def _spaced(bad: list[tuple[str, bytes]]) -> bytes:
    """An archive whose directory leads to clean members, behind a bad one that it does not name."""
    hidden = zipped(bad)
    hidden = hidden[: hidden.index(b"PK\x01\x02")]
    clean = zipped(_parts(pickle.dumps({}, 2)))
    start = clean.index(b"PK\x01\x02")
    shift = len(hidden)
    body, directory, end = clean[:start], clean[start : _end(clean)], clean[_end(clean) :]
    moved = bytearray(directory)
    at = 0
    while at < len(moved):
        lengths = struct.unpack_from("<3H", moved, at + 28)
        (place,) = struct.unpack_from("<I", moved, at + 42)
        struct.pack_into("<I", moved, at + 42, place + shift)
        at += 46 + sum(lengths)
    tail = bytearray(end)
    struct.pack_into("<I", tail, 16, start + shift)
    return hidden + body + bytes(moved) + bytes(tail)


def _zip64(data: bytes) -> bytes:
    """A 64-bit end record that leads to an empty directory, and a plain one that does not."""
    end = _end(data)
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 0, 0, 0, end)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return data[:end] + record + locator + data[end:]


def _streamed() -> bytes:
    class Pipe(io.RawIOBase):
        """No seeking, as a socket: zipfile then writes the sizes behind each member."""

        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, piece: Any) -> int:
            self.data += bytes(piece)
            return len(piece)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for key, content in _parts(_BAD):
            archive.writestr(zipfile.ZipInfo(key), content)
    return bytes(pipe.data)


def _overlapping() -> bytes:
    """A directory with a second entry that leads to the first one's header."""
    data = zipped(_parts(_BAD))
    start, end = data.index(b"PK\x01\x02"), _end(data)
    first = data[start : data.index(b"PK\x01\x02", start + 1)]
    again = first.replace(b"archive/data.pkl", b"archive/notes.md")
    tail = bytearray(data[end:])
    count, size = struct.unpack_from("<HI", tail, 10)
    struct.pack_into("<HHI", tail, 8, count + 1, count + 1, size + len(again))
    return data[:end] + again + bytes(tail)


PARTS = (_honest, _plain, _games)
