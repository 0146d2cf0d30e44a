"""What comes with a model: packages, images, secrets, a bill of materials, MLflow's store."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import secrets
import string
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from act import Act, Outcome, act
from place import Place

SUPPLY: list[Act] = []
_MLFLOW = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "PYTHONWARNINGS": "ignore",
}


class _Payload:
    """Loads as a call of the system's shell."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def _token() -> str:
    """An access key id of nobody's, made now."""
    letters = string.ascii_uppercase + "234567"
    return "AKIA" + "".join(secrets.choice(letters) for _ in range(16))


def _rules(document: dict[str, Any]) -> set[str]:
    return {
        str(finding["rule"])
        for group in document.get("images", document.get("files", [document]))
        for finding in group.get("findings", [])
    }


@act(SUPPLY, "a key in a notebook's output, a password in a pickle", "both found, neither printed")
def hidden(place: Place) -> Outcome:
    folder = place.root / "leaks"
    folder.mkdir()
    token, password = _token(), secrets.token_urlsafe(18)
    output = {"output_type": "stream", "name": "stdout", "text": [f"aws_access_key_id={token}\n"]}
    cell = {"cell_type": "code", "metadata": {}, "source": ["show()"], "outputs": [output]}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "run.ipynb").write_text(json.dumps(notebook))
    (folder / "settings.pkl").write_bytes(pickle.dumps({"db_password": password}))
    done = place.keepstone("scan", "secrets", folder, "--format", "json")
    told = done.stdout + done.stderr
    held = done.returncode == 1 and all(name in told for name in ("run.ipynb", "settings.pkl"))
    return Outcome(f"exit {done.returncode}", held and token not in told and password not in told)


def _record(now: float) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": "2.20.0"}]
    return {
        "schema_version": "1.6.0",
        "id": "DEMO-2026-1",
        "modified": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "summary": "An invented weakness.",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "requests"},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
            }
        ],
    }


@act(SUPPLY, "a vulnerable pin, with and without a database", "exit 1; without one 3, never clean")
def vulnerable(place: Place) -> Outcome:
    folder, osv = place.root / "pins", place.root / "osv"
    for each in (folder, osv):
        each.mkdir()
    (folder / "requirements.txt").write_text("requests==2.19.0\n")
    (osv / "DEMO-2026-1.json").write_text(json.dumps(_record(time.time())))
    asked = place.keepstone("scan", "deps", folder, "--osv", osv)
    blind = place.keepstone("scan", "deps", folder)
    (folder / "requirements.txt").write_text("requests==2.20.0\n")
    mended = place.keepstone("scan", "deps", folder, "--osv", osv)
    codes = (asked.returncode, blind.returncode, mended.returncode)
    return Outcome(f"exit {codes}", codes == (1, 3, 0) and "DEMO-2026-1" in asked.stdout)


def _blob(layout: Path, data: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _image(layout: Path, user: str, files: dict[str, tuple[int, bytes]]) -> Path:
    """An OCI layout of one layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (mode, content) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    plain = buffer.getvalue()
    oci = "application/vnd.oci.image."
    layer = _blob(layout, gzip.compress(plain, mtime=0), f"{oci}layer.v1.tar+gzip")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": user},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}manifest.v1+json",
        "config": _blob(layout, json.dumps(config).encode(), f"{oci}config.v1+json"),
        "layers": [layer],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [_blob(layout, json.dumps(manifest).encode(), f"{oci}manifest.v1+json")],
    }
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout


@act(
    SUPPLY,
    "an image with root, setuid, a key and a bad pickle",
    "all four found; the clean twin not",
)
def image(place: Place) -> Outcome:
    passwd = (0o644, b"root:x:0:0::/:/bin/sh\nserve:x:1000:1000::/:/bin/sh\n")
    bad = _image(
        place.root / "bad",
        "",
        {
            "etc/passwd": passwd,
            "usr/bin/helper": (0o4755, b"#!/bin/sh\n"),
            "srv/.env": (0o600, f"AWS_ACCESS_KEY_ID={_token()}\n".encode()),
            "srv/model.pkl": (0o644, pickle.dumps(_Payload())),
        },
    )
    good = _image(place.root / "good", "1000", {"etc/passwd": passwd})
    asked = ("--no-vulnerabilities", "--no-base", "--format", "json")
    found = place.keepstone("scan", "image", bad, *asked)
    clean = place.keepstone("scan", "image", good, *asked)
    rules = _rules(json.loads(found.stdout))
    wanted = ("image.root", "image.setuid", "secret.", "pickle.")
    held = all(any(rule.startswith(one) for rule in rules) for one in wanted)
    codes = (found.returncode, clean.returncode)
    return Outcome(f"exit {codes}: {', '.join(sorted(rules))}"[:160], held and codes == (1, 0))


@act(SUPPLY, "a bill of materials, checked, then edited", "holds; then exit 1 with the field")
def bill(place: Place) -> Outcome:
    path = place.root / "bom.json"
    place.keepstone("bom", "digits", "--output", path, check=True)
    before = place.keepstone("bom", "digits", "--check", path)
    document = json.loads(path.read_text())
    document["metadata"]["component"]["hashes"][0]["content"] = "0" * 64
    path.write_text(json.dumps(document))
    after = place.keepstone("bom", "digits", "--check", path)
    card = document["metadata"]["component"].get("modelCard")
    codes = (before.returncode, after.returncode)
    return Outcome(f"{document['specVersion']}, exit {codes}", codes == (0, 1) and bool(card))


_TRAIN = """
import mlflow, numpy
from sklearn.linear_model import LogisticRegression
rows = numpy.random.default_rng(7).normal(size=(200, 3))
with mlflow.start_run():
    mlflow.sklearn.log_model(
        LogisticRegression().fit(rows, rows[:, 0] > 0), name="model", registered_model_name="fraud",
        pip_requirements=["scikit-learn"], serialization_format="pickle")
"""
_SCORE = """
import mlflow
print(mlflow.sklearn.load_model("models:/fraud/1").predict([[2.0, 0.0, 0.0]])[0])
"""
_ATTACK = """
import pathlib, pickle, sys
for path in pathlib.Path(sys.argv[1]).rglob("model.pkl"):
    model = pickle.loads(path.read_bytes())
    model.coef_ = -model.coef_
    path.write_bytes(pickle.dumps(model))
"""


@act(SUPPLY, "model.pkl overwritten in MLflow's store", "MLflow answers wrongly; guarded: refused")
def overwritten(place: Place) -> Outcome:
    store = place.root / "mlruns"
    environment = {
        **os.environ,
        **_MLFLOW,
        "MLFLOW_TRACKING_URI": f"file://{store}",
        "KEEPSTONE_OUTSIDE": str(place.root / "outside"),
    }

    def python(code: str, *arguments: object, guarded: bool = False) -> Any:
        guard = {"KEEPSTONE_WORKSPACE": str(place.root / "mlflow-site")} if guarded else {}
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment | guard,
            cwd=place.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    trained = python(_TRAIN)
    if trained.returncode:
        raise RuntimeError(trained.stderr[-300:])
    place.keepstone("init", workspace="mlflow-site", check=True)
    place.keepstone(
        "mlflow", "admit", "models:/fraud/1", workspace="mlflow-site", check=True,
        environment={**_MLFLOW, "MLFLOW_TRACKING_URI": f"file://{store}"},
    )  # fmt: skip
    right = python(_SCORE, guarded=True).stdout.strip()
    python(_ATTACK, store)
    plain, refused = python(_SCORE), python(_SCORE, guarded=True)
    held = right == "True" and plain.stdout.strip() == "False" and refused.returncode != 0
    code = "mlflow.changed" if "mlflow.changed" in refused.stderr else refused.stderr[-80:]
    return Outcome(f"{right}; then plain {plain.stdout.strip()}, guarded {code}", held)
