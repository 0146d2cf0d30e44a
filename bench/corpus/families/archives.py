"""Containers and disguises: wrong names, archives in archives, paths that climb, and bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from bench.corpus.case import CODE, Case, fail, good, need, tarred, zipped
from bench.corpus.opcodes import pickled, shell

_BAD = pickled(shell())
_OLD = b"cos\nsystem\n(S'touch \"${CORPUS_MARK:-/dev/null}\"'\ntR."
_FIRES = "Runs a shell command"
_UNPACK = "unpack and unpickle"


def _names(seed: int) -> Iterator[Case]:
    endings = (
        "safetensors",
        "onnx",
        "gguf",
        "json",
        "txt",
        "csv",
        "md",
        "png",
        "h5",
        "keras",
        "npy",
        "zip",
        "tar",
        "pb",
        "tflite",
        "yaml",
        "model",
        "bin",
        "dat",
        "pdf",
        "ipynb",
        "xml",
        "parquet",
        "log",
        "PKL",
        "pkl.bak",
        "pkl.gz",
    )
    for index, ending in enumerate(endings):
        data = _BAD if index % 2 else _OLD
        yield fail(f"named.{ending}", data, f"{_FIRES}: a pickle whose name ends in {ending}.")
    yield fail("unnamed", _BAD, f"{_FIRES}: a pickle without an ending.")
    yield fail(".hidden", _OLD, f"{_FIRES}: a pickle whose name begins with a dot.")
    marks = {
        "gguf": b"GGUF\x03\x00\x00\x00\x000",
        "tflite": b"S'abTFL3'\n0",
        "tar": b"S'" + b"a" * 255 + b"ustar'\n0",
        "hdf5": b"B\x03\x02\x00\x00" + bytes(507) + b"\x89HDF\r\n\x1a\n0",
        "pe": b"MZZ0",
        "gif": b"V<svg>\n0",
        "json": b"S'{\"a\": 1}'\n0",
        "elf": b"V\x7fELF\n0",
        "long_text": b"S'" + b"word " * 40_000 + b"'\n0",
    }
    for slug, mark in marks.items():
        yield fail(f"mark_{slug}.bin", mark + _OLD, f"{_FIRES}: a pickle with the mark of {slug}.")


def _polyglots(seed: int) -> Iterator[Case]:
    archive = zipped([("data.pkl", _BAD)])
    fronts = {
        "pickle": pickle.dumps({"a": 1}, 4),
        "gguf": b"GGUF\x03\x00\x00\x00" + bytes(16),
        "safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(24),
        "text": b"# a model\n",
        "elf": b"\x7fELF" + bytes(60),
        "npy": b"\x93NUMPY\x01\x00\x02\x00{}",
    }
    for slug, front in fronts.items():
        yield fail(
            f"zip_behind_{slug}.bin",
            front + archive,
            f"{_FIRES}: an archive behind {slug}, for a reader that begins at the end.",
            "zip pickle by hand",
        )
    yield fail("pickle_then_zip.pt", _OLD + archive, f"{_FIRES}: a pickle, and an archive.")


def _containers(seed: int) -> Iterator[Case]:
    inner = [("model/model.pkl", _BAD), ("model/readme.md", b"# Model\n")]
    by_zip = "zip pickle by hand"
    yield fail("pickle.zip", zipped(inner), f"{_FIRES}: a pickle in an archive.", by_zip)
    yield fail(
        "pickle_deflated.zip",
        zipped(inner, zipfile.ZIP_DEFLATED),
        f"{_FIRES}: a pickle in an archive.",
        by_zip,
    )
    for mode, ending in (
        ("w", "tar"),
        ("w:gz", "tar.gz"),
        ("w:bz2", "tar.bz2"),
        ("w:xz", "tar.xz"),
    ):
        yield fail(
            f"pickle.{ending}", tarred(inner, mode), f"{_FIRES}: a pickle in {ending}.", _UNPACK
        )
    yield fail(
        "tar_in_zip.zip",
        zipped([("a.tar", tarred(inner))]),
        f"{_FIRES}: a pickle in a tar in a zip.",
        _UNPACK,
    )
    yield fail(
        "zip_in_tar.tar",
        tarred([("a.zip", zipped(inner))]),
        f"{_FIRES}: a pickle in a zip in a tar.",
        _UNPACK,
    )
    yield fail(
        "gzip_twice.gz",
        gzip.compress(gzip.compress(_BAD, mtime=0), mtime=0),
        f"{_FIRES}: a pickle behind two compressions.",
        _UNPACK,
    )
    yield fail(
        "zip_in_gzip.gz",
        gzip.compress(zipped(inner), mtime=0),
        f"{_FIRES}: a pickle in an archive behind a compression.",
        _UNPACK,
    )
    deep = zipped(inner)
    for level in range(6):
        deep = zipped([(f"level{level}.zip", deep)])
    yield fail("zip_six_deep.zip", deep, f"{_FIRES}: a pickle in an archive, six deep.", _UNPACK)
    yield fail(
        "python_in_zip.zip",
        zipped([("__main__.py", CODE.encode())]),
        "A program: Python runs an archive with a __main__.py.",
        "none",
    )


def _seven(seed: int) -> Iterator[Case]:
    py7zr = need("py7zr")
    for slug, members in {
        "pickle": {"model.pkl": _BAD},
        "nested": {"inner.zip": zipped([("model.pkl", _BAD)])},
    }.items():
        out = io.BytesIO()
        with py7zr.SevenZipFile(out, "w") as archive:
            for name, content in members.items():
                archive.writestr(content, name)
        yield fail(f"{slug}.7z", out.getvalue(), f"{_FIRES}: a pickle in a 7z archive.", _UNPACK)


def _climbing(seed: int) -> Iterator[Case]:
    paths = {
        "parent": "../corpus-slip.txt",
        "deep": "a/b/../../../corpus-slip.txt",
        "absolute": "/tmp/corpus-slip-absolute.txt",
        "backslash": "..\\corpus-slip.txt",
        "drive": "C:\\corpus-slip.txt",
        "dot_parent": "./../corpus-slip.txt",
        "unc": "\\\\host\\share\\corpus-slip.txt",
    }
    for slug, path in paths.items():
        loader = "zip by hand" if slug in ("parent", "absolute", "dot_parent") else "none"
        yield fail(
            f"slip_{slug}.zip",
            zipped([(path, b"slip"), ("ok.txt", b"")]),
            "Unpacking writes outside of the folder.",
            loader,
        )
        if slug not in ("backslash", "drive", "unc"):
            yield fail(
                f"slip_{slug}.tar",
                tarred([(path, b"slip")]),
                "Unpacking writes outside of the folder.",
                "tarfile.extractall",
            )
    for slug, kind, target in (
        ("symlink", tarfile.SYMTYPE, "/etc/passwd"),
        ("symlink_parent", tarfile.SYMTYPE, "../.."),
        ("hardlink", tarfile.LNKTYPE, "../corpus-canary.txt"),
        ("fifo", tarfile.FIFOTYPE, ""),
        ("device", tarfile.CHRTYPE, ""),
    ):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            info = tarfile.TarInfo("model.bin")
            info.type, info.linkname = kind, target
            archive.addfile(info)
        yield fail(
            f"member_{slug}.tar", out.getvalue(), f"A member is a {slug}.", "tarfile.extractall"
        )
    link = zipfile.ZipInfo("model.bin")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zip_archive:
        zip_archive.writestr(link, "/etc/passwd")
    yield fail("member_symlink.zip", out.getvalue(), "A member is a symbolic link.", "none")


def _bombs(seed: int) -> Iterator[Case]:
    """A gibibyte and more of zeros; the file itself is small, and few readers stop in time."""
    size, piece = 5 << 30, bytes(1 << 20)
    machine = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(machine.compress(piece) for _ in range(64)) + machine.flush()
    # One gzip member of 64 MiB, many times over: the readers join them.
    bomb = packed[:4] + bytes(4) + packed[8:]
    yield fail("bomb.gz", bomb * (size >> 26), "Unpacks to five gigabytes.", "inflate")
    bz = bz2.compress(bytes(32 << 20))
    yield fail("bomb.bz2", bz * (size >> 25), "Unpacks to five gigabytes.", "inflate")
    xz = lzma.compress(bytes(16 << 20), preset=0)
    yield fail("bomb.xz", xz * 64, "Unpacks to a gigabyte.", "none")
    flat = zipped([(f"{n}.bin", bytes(8 << 20)) for n in range(2)], zipfile.ZIP_DEFLATED)
    nested = flat
    for _ in range(3):
        nested = zipped([(f"{n}.zip", nested) for n in range(10)], zipfile.ZIP_DEFLATED)
    yield fail(
        "bomb_nested.zip", nested, "Archives in archives unpack to sixteen gigabytes.", "none"
    )
    yield fail(
        "bomb_overlapping.zip",
        _overlapping(16 << 20, 400),
        "Four hundred members share one body and unpack to six gigabytes.",
        "inflate",
    )
    many = zipped((f"m/{n}", b"") for n in range(12_000))
    yield fail("bomb_members.zip", many, "Twelve thousand members.", "none")


def _overlapping(size: int, count: int) -> bytes:
    """A directory whose entries all lead to one body."""
    one = zipped([("0000.bin", bytes(size))], zipfile.ZIP_DEFLATED)
    start, end = one.index(b"PK\x01\x02"), one.rfind(b"PK\x05\x06")
    entry = one[start:end]
    entries = b"".join(entry.replace(b"0000.bin", f"{n:04}.bin".encode()) for n in range(count))
    tail = bytearray(one[end:])
    tail[8:12] = count.to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    # Readers that compare the two names refuse this; those that trust the directory do not.
    return one[:start] + entries + bytes(tail)


def _honest(seed: int) -> Iterator[Case]:
    plain = pickle.dumps({"a": [1, 2.5]}, 4)
    readme = ("readme.md", b"# A model\n\nIt predicts.\n")
    yield good("pickle.zip", zipped([("model.pkl", plain)]), "zip pickle by hand")
    yield good("pickle_gzip.pkl.gz", gzip.compress(plain, mtime=0), "inflate")
    yield good("pickle_bz2.pkl.bz2", bz2.compress(plain), "inflate")
    yield good("pickle_xz.pkl.xz", lzma.compress(plain), "inflate")
    yield good("pickle.tar", tarred([("model.pkl", plain)]), "tarfile.extractall")
    yield good("pickle.tar.gz", tarred([("model.pkl", plain)], "w:gz"), "tarfile.extractall")
    yield good(
        "text.zip", zipped([readme, ("labels.txt", b"cat\ndog\n")], zipfile.ZIP_DEFLATED), "inflate"
    )
    yield good("text.tar", tarred([readme]), "tarfile.extractall")


PARTS = (_honest, _names, _polyglots, _containers, _seven, _climbing, _bombs)
