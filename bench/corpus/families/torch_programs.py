"""TorchScript and torch.export: archives that hold programs beside their weights."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import CODE, Case, fail, good, need, zipped
from bench.corpus.opcodes import pickled, shell

_SCRIPT, _EXPORT = "torch.jit.load", "torch.export.load"
_BAD = pickled(shell(), 2)


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _changed(data: bytes, **changes: bytes) -> bytes:
    """The archive with the members whose names end so replaced, or added."""
    members = dict(_members(data))
    root = next(iter(members)).partition("/")[0]
    for ending, content in changes.items():
        name = next((name for name in members if name.endswith(ending.replace("__", "."))), None)
        members[name or f"{root}/{ending.replace('__', '.')}"] = content
    return zipped(members.items())


def _scripted(torch: Any, module: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, torch.zeros(1, 4)), out)
    return out.getvalue()


def _exported(torch: Any, module: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (torch.zeros(1, 4),)), out)
    return out.getvalue()


def _networks(torch: Any, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    nn = torch.nn
    return {
        "linear": nn.Linear(4, 2),
        "network": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1)),
        "normalised": nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2), nn.Tanh()),
    }


def _honest(seed: int) -> Iterator[Case]:
    torch = need("torch")
    for slug, network in _networks(torch, seed).items():
        network.eval()
        yield good(f"traced_{slug}.pt", _scripted(torch, network), _SCRIPT)
        yield good(f"exported_{slug}.pt2", _exported(torch, network), _EXPORT)


def _bad(seed: int) -> Iterator[Case]:
    torch = need("torch")
    network = _networks(torch, seed)["linear"].eval()
    script = _scripted(torch, network)
    names = [name for name, _ in _members(script)]
    code = next(name for name in names if name.endswith(".py"))
    source = dict(_members(script))[code].decode()
    first = source.index("    return") if "    return" in source else len(source)

    def with_line(line: str) -> bytes:
        return source[:first].encode() + f"    {line}\n".encode() + source[first:].encode()

    ending = code.partition("/")[2].replace(".", "__")
    cases = {
        "data_pickle": _changed(script, data__pkl=_BAD),
        "constants_pickle": _changed(script, constants__pkl=_BAD),
        "debug_pickle": _changed(script, py__debug_pkl=_BAD),
        "other_pickle": _changed(script, extra__pkl=_BAD),
        "code_from_file": _changed(
            script, **{ending: with_line('_0 = ops.aten.from_file("/etc/passwd", None, 8)')}
        ),
        "code_save": _changed(
            script, **{ending: with_line('ops.aten.save([1], "/tmp/corpus-made")')}
        ),
        "code_custom_operator": _changed(script, **{ending: with_line("_0 = ops.evil.run(1)")}),
        "code_class": _changed(
            script, **{ending: with_line("_0 = __torch__.torch.classes.evil.Runner()")}
        ),
        "python_beside": _changed(script, **{"code/run__sh": CODE.encode()}),
    }
    for slug, data in cases.items():
        yield fail(
            f"script_{slug}.pt",
            data,
            f"The program reaches out, or a pickle does: {slug}.",
            "torch.load" if slug == "data_pickle" else "none",
        )
    exported = _exported(torch, network)
    kept = dict(_members(exported))
    constants = [name for name in kept if name.endswith((".pt", ".pkl"))]
    model = next(name for name in kept if name.endswith("models/model.json"))
    archive = zipped(
        [
            (name.rpartition("/")[2] and f"archive/{name}", value)
            for name, value in {"data.pkl": _BAD, "version": b"3\n", "byteorder": b"little"}.items()
        ]
    )
    changed = {
        "weights": dict.fromkeys(constants[:1], archive),
        "inputs": dict.fromkeys(constants[-1:], archive),
        "extra": {"archive/extra/x.pkl": _BAD},
        "library": {"archive/data/aotinductor/model/x.so": b"\x7fELF" + bytes(60)},
        "symbolic": {
            model: kept[model].replace(b'"as_expr":', b'"as_expr":"__import__(\'os\')","x":')
            if b"as_expr" in kept[model]
            else kept[model].replace(b"torch.ops.aten", b"torch.ops.evil")
        },
        "target": {
            model: kept[model].replace(
                b"torch.ops.aten.linear.default", b"torch.ops.evil.run.default"
            )
        },
        "target_system": {
            model: kept[model].replace(b"torch.ops.aten.linear.default", b"os.system")
        },
    }
    for slug, changes in changed.items():
        if all(kept.get(name) == value for name, value in changes.items()):
            raise RuntimeError(f"{slug} changes nothing: the exporter writes another form now")
        data = zipped({**kept, **changes}.items())
        yield fail(
            f"exported_{slug}.pt2",
            data,
            f"The program reaches out, or a pickle does: {slug}.",
            "none",
        )
    package = [
        ("p/.data/extern_modules", b"os\n"),
        ("p/.data/version", b"6\n"),
        ("p/.data/python_version", b"3.11"),
        ("p/byteorder", b"little"),
        ("p/model/model.pkl", _BAD),
        ("p/evil.py", CODE.encode()),
    ]
    yield fail("package.pt", zipped(package), "torch.package: brings source and a pickle.", "none")


PARTS = (_honest, _bad)
