"""What suppliers and writers of the artifact store try: acts on models and their evidence."""

from __future__ import annotations

import json
import os
import pickle
import threading
import time
from pathlib import Path

from act import Act, Outcome, act, ended
from place import Place

MODELS: list[Act] = []


def _refused(place: Place, model: Path, workspace: str, status: int, code: str) -> Outcome:
    done = place.keepstone("up", model, "--port", 0, workspace=workspace)
    return ended(done.returncode, done.stderr, status, code)


@act(MODELS, "a model file changed after it was signed", "exit 1 model.mismatch")
def tampered(place: Place) -> Outcome:
    folder = place.root / "tampered"
    folder.mkdir()
    for file in (place.root / "digits").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    model = folder / "digits.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    place.keepstone("init", workspace="tampered-site", check=True)
    place.keepstone(
        "signers", "add", "digits-training", folder / "publisher.pub.pem", "--role", "publisher",
        workspace="tampered-site", check=True,
    )  # fmt: skip
    return _refused(place, model, "tampered-site", 1, "model.mismatch")


@act(MODELS, "a model swapped again and again while it is admitted", "what was scanned is served")
def swapped(place: Place) -> Outcome:
    honest = place.model.read_bytes()
    model = place.copy_model("swap.onnx")
    other = place.root / "other.onnx"
    other.write_bytes(honest[: len(honest) // 2])
    ended_flag = threading.Event()

    def swap() -> None:
        while not ended_flag.is_set():
            for source in (other, place.model):
                spare = place.root / "swap.tmp"
                spare.write_bytes(source.read_bytes())
                spare.replace(model)

    racer = threading.Thread(target=swap)
    racer.start()
    served = refused = 0
    try:
        for attempt in range(6):
            workspace = f"swap-site-{attempt}"
            try:
                with place.serving(model, workspace=workspace) as endpoint:
                    status, _, _ = endpoint.send(place.sample)
                    served += status == 200
            except RuntimeError as error:
                # The half file was staged: a scan that says no, never a served half.
                refused += "error[" in str(error)
    finally:
        ended_flag.set()
        racer.join()
    return Outcome(f"{served} served whole, {refused} refused", served + refused == 6)


@act(
    MODELS, "the sealed blob changed in the vault", "never loaded: sealed anew from what is judged"
)
def changed_blob(place: Place) -> Outcome:
    with place.serving(place.model, workspace="blob-site"):
        pass
    (blob,) = (place.root / "blob-site" / "vault").rglob("*.sealed")
    data = bytearray(blob.read_bytes())
    data[-20] ^= 1
    blob.write_bytes(data)
    with place.serving(place.model, workspace="blob-site") as endpoint:
        status, _, _ = endpoint.send(place.sample)
    healed = blob.read_bytes() != bytes(data)
    return Outcome(
        f"{'sealed anew' if healed else 'kept'}, then {status}", healed and status == 200
    )


@act(MODELS, "a pickle with a payload", "flagged with its import; up refuses; nothing runs")
def payload(place: Place) -> Outcome:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {place.root}/owned",)

    model = place.root / "model.pkl"
    model.write_bytes(pickle.dumps(Payload()))
    scan = place.keepstone("scan", model, "--format", "json")
    file = json.loads(scan.stdout)["files"][0]
    named = any("system" in finding["message"] for finding in file["findings"])
    up = place.keepstone("up", model, "--port", 0, workspace="pickle-site")
    held = scan.returncode == 1 and file["verdict"] == "flagged" and named
    held = held and up.returncode == 1 and not (place.root / "owned").exists()
    return Outcome(f"scan: {file['verdict']}; up: exit {up.returncode}", held)


@act(MODELS, "production without the approval, then with it", "refused, then served")
def approval(place: Place) -> Outcome:
    workspace = "production-site"
    place.keepstone("init", "--profile", "production", workspace=workspace, check=True)
    publisher = place.root / "digits" / "publisher.pub.pem"
    place.keepstone(
        "signers", "add", "digits-training", publisher, "--role", "publisher",
        workspace=workspace, check=True,
    )  # fmt: skip
    place.keepstone(
        "signers", "add", "alice", place.root / "alice.pub.pem", "--role", "approver",
        workspace=workspace, check=True,
    )  # fmt: skip
    refused = _refused(place, place.model, workspace, 1, "gate.denied")
    place.keepstone(
        "approve", "digits", "--as", place.root / "alice.pem", "--reason", "reviewed",
        workspace=workspace, check=True,
    )  # fmt: skip
    with place.serving(place.model, workspace=workspace) as endpoint:
        status, _, _ = endpoint.send(place.sample)
    return Outcome(f"{refused.observed}, then {status}", refused.held and status == 200)


@act(MODELS, "revoked while serving, from another process", "no prediction after one second")
def revoked(place: Place) -> Outcome:
    workspace = "revoke-site"
    place.keepstone("init", workspace=workspace, check=True)
    place.keepstone(
        "signers", "add", "alice", place.root / "alice.pub.pem", "--role", "responder",
        workspace=workspace, check=True,
    )  # fmt: skip
    with place.serving(place.model, workspace=workspace) as endpoint:
        before = endpoint.send(place.sample)[0]
        place.keepstone(
            "revoke", "digits", "--as", place.root / "alice.pem", "--reason", "poisoned",
            workspace=workspace, check=True,
        )  # fmt: skip
        recorded = time.monotonic()
        after = endpoint.send(place.sample)
        waited = time.monotonic() - recorded
    again = _refused(place, place.model, workspace, 1, "gate.revoked")
    renamed = place.keepstone(
        "up", place.copy_model("renamed.onnx"), "--port", 0, workspace=workspace
    )
    held = before == 200 and after[0] == 403 and waited < 1 and again.held
    return Outcome(
        f"{before}, then {after[0]}; new up: {again.observed}; renamed: exit {renamed.returncode}",
        held and renamed.returncode == 1,
    )
