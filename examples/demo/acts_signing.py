"""Who may sign for production, and what keeps the key that opens the vault."""

from __future__ import annotations

import shutil
from pathlib import Path

from act import Act, Outcome, act
from place import Place

SIGNING: list[Act] = []

_ROLE = '[roles.training-pipeline]\ngrants = ["state.training"]\n\n[roles.approver]'
_ASKED = 'evidence = "signature"\nrole = "publisher"'
_APART = 'distinct_from = ["publisher"]'


def _only_the_pipeline_signs(policy: Path) -> None:
    text = policy.read_text()
    for old, new in (
        ("[roles.approver]", _ROLE),
        (_ASKED, _ASKED.replace("publisher", "training-pipeline")),
        (_APART, _APART.replace("]", ', "training-pipeline"]')),
    ):
        if old not in text:
            raise RuntimeError(f"the profile no longer says {old!r}")
        text = text.replace(old, new)
    policy.write_text(text)


@act(
    SIGNING,
    "production with a publisher's signature, where only the training pipeline may sign",
    "refused for want of require.signature; served when the pipeline signs",
)
def wrong_signer(place: Place) -> Outcome:
    site = "pipeline-site"
    folder = place.root / "pipeline"
    shutil.copytree(place.root / "digits", folder)
    model = folder / "digits.onnx"
    place.keepstone("init", "--profile", "production", workspace=site, check=True)
    _only_the_pipeline_signs(place.root / site / "policy.toml")
    pipeline = place.root / "pipeline.pem"
    place.keepstone("signers", "create", "--out", pipeline, check=True)
    for name, public, role in (
        ("digits-training", folder / "publisher.pub.pem", "publisher"),
        ("pipeline", place.root / "pipeline.pub.pem", "training-pipeline"),
        ("alice", place.root / "alice.pub.pem", "approver"),
    ):
        place.keepstone("signers", "add", name, public, "--role", role, workspace=site, check=True)
    place.keepstone("up", model, workspace=site)
    place.keepstone(
        "approve", "digits", "--as", place.root / "alice.pem", "--reason", "reviewed",
        workspace=site, check=True,
    )  # fmt: skip
    refused = place.keepstone("up", model, workspace=site)
    why = place.keepstone("policy", "explain", "digits", workspace=site)
    told = why.stdout + why.stderr
    held = refused.returncode == 1 and "gate.denied" in refused.stderr
    held = held and "require.signature" in told
    place.keepstone("sign", model, "--private-key", pipeline, check=True)
    with place.serving(model, workspace=site) as endpoint:
        status, _, _ = endpoint.send(place.sample)
    return Outcome(f"exit {refused.returncode}, then {status}", held and status == 200)


@act(SIGNING, "the vault's key is replaced, and the old key file put back", "exit 1 seal.wrong_key")
def old_key(place: Place) -> Outcome:
    site = "rotated-site"
    place.keepstone("init", workspace=site, check=True)
    kept = place.root / site / "keys" / "kek.json"
    old = kept.read_bytes()
    place.keepstone("vault", "rotate", workspace=site, check=True)
    place.keepstone("keys", "list", workspace=site, check=True)
    kept.write_bytes(old)
    refused = place.keepstone("keys", "list", workspace=site)
    held = refused.returncode == 1 and "error[seal.wrong_key]" in refused.stderr
    return Outcome(f"exit {refused.returncode}", held)
