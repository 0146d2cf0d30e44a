"""What hides in model files, and what happens to them where they lie."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

from act import Act, Outcome, act, ended
from place import Place

ARTIFACTS: list[Act] = []


class _Payload:
    """Loads as a call of the system's shell."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


class _Nested:
    """Loads as a pickle inside a pickle, which a look at the outer names does not show."""

    def __init__(self, inner: bytes) -> None:
        self.inner = inner

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return pickle.loads, (self.inner,)


def _archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        # One act writes a name twice on purpose.
        warnings.simplefilter("ignore", UserWarning)
        for name, content in members:
            archive.writestr(name, content)
    return path


def _flagged(place: Place, model: Path, rule: str) -> Outcome:
    scan = place.keepstone("scan", model, "--format", "json")
    file = json.loads(scan.stdout)["files"][0]
    rules = sorted({finding["rule"] for finding in file["findings"]})
    up = place.keepstone("up", model, "--port", 0, workspace=f"{model.stem}-site")
    held = (scan.returncode, file["verdict"], up.returncode) == (1, "flagged", 1)
    held = held and any(one.startswith(rule) for one in rules)
    held = held and not (place.root / "owned").exists()
    return Outcome(f"{file['verdict']} ({', '.join(rules)}); up: exit {up.returncode}", held)


@act(ARTIFACTS, "a checkpoint whose pickle hides another one", "flagged; up refuses; nothing runs")
def nested(place: Place) -> Outcome:
    inner = pickle.dumps(_Payload(place.root / "owned"))
    content = pickle.dumps({"weight": _Nested(inner)}, protocol=2)
    model = _archive(place.root / "nested.pt", ("nested/data.pkl", content))
    return _flagged(place, model, "pickle.")


@act(ARTIFACTS, "a checkpoint with two members data.pkl", "flagged: readers take different ones")
def two_members(place: Place) -> Outcome:
    evil = pickle.dumps(_Payload(place.root / "owned"))
    model = _archive(
        place.root / "twice.pt",
        ("twice/data.pkl", evil),
        ("twice/data.pkl", pickle.dumps({}, protocol=2)),
    )
    return _flagged(place, model, "zip.ambiguous")


def _with_sidecar(place: Place, folder: Path) -> Path:
    """The digits model with its weights in a file of their own; returns that file."""
    import onnx
    from onnx import numpy_helper

    folder.mkdir()
    model = onnx.load(place.model)
    for weights in model.graph.initializer:
        # Only raw bytes can lie in another file.
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights), weights.name))
    onnx.save(
        model,
        folder / "digits.onnx",
        save_as_external_data=True,
        size_threshold=1024,
        location="weights.bin",
    )
    return folder / "weights.bin"


@act(
    ARTIFACTS,
    "weights beside a model swapped after they were signed",
    "served as signed; exit 1 model.mismatch once swapped",
)
def swapped_sidecar(place: Place) -> Outcome:
    site, folder = "sidecar-site", place.root / "sidecar"
    weights = _with_sidecar(place, folder)
    key = place.root / "sidecar.pem"
    place.keepstone("signers", "create", "--out", key, check=True)
    place.keepstone("init", workspace=site, check=True)
    place.keepstone(
        "signers", "add", "maker", place.root / "sidecar.pub.pem", "--role", "publisher",
        workspace=site, check=True,
    )  # fmt: skip
    place.keepstone("sign", folder, "--private-key", key, check=True)
    with place.serving(folder, workspace=site) as endpoint:
        status = endpoint.send(place.sample, path="/v2/models/sidecar/infer")[0]
    data = bytearray(weights.read_bytes())
    data[:64] = bytes(64)
    weights.write_bytes(data)
    done = place.keepstone("up", folder, "--port", 0, workspace=site)
    refused = ended(done.returncode, done.stderr, 1, "model.mismatch")
    return Outcome(f"{status}, then {refused.observed}", status == 200 and refused.held)


_LOAD = """
import sys
import keepstone
try:
    keepstone.load("digits", workspace=sys.argv[1])
except keepstone.KeepstoneError as error:
    print(error.code)
else:
    print("loaded")
"""


def _load(place: Place, site: str) -> str:
    environment = {**os.environ, "KEEPSTONE_OUTSIDE": str(place.root / "outside")}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(place.root / site)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip()[-200:]


@act(ARTIFACTS, "an older sealed blob put back into the vault", "refused: seal.rolled_back")
def rolled_back_blob(place: Place) -> Outcome:
    site = "rollback-site"
    with place.serving(place.model, workspace=site):
        pass
    (blob,) = (place.root / site / "vault").rglob("*.sealed")
    first = _load(place, site)
    kept = place.root / "kept.sealed"
    shutil.copy(blob, kept)
    blob.write_bytes(b"damaged")
    with place.serving(place.model, workspace=site):
        pass
    shutil.copy(kept, blob)
    then = _load(place, site)
    return Outcome(f"{first}, then {then}", (first, then) == ("loaded", "seal.rolled_back"))
