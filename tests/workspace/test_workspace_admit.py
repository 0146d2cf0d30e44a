"""From a file to a model that may be served: every step, and what each refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, OperationalError, VerificationError
from keepstone.evidence.incremental import sign_incrementally
from keepstone.evidence.made import Input
from keepstone.evidence.memory import Memory, Remembered, Stamp
from keepstone.evidence.modelsign import sign_model
from keepstone.evidence.predicates import Admission, Scan, Signature, Training
from keepstone.evidence.statement import make_statement
from keepstone.workspace import intake as room
from keepstone.workspace import sealing
from keepstone.workspace.admit import Submission, name_of
from keepstone.workspace.opened import Workspace
from keepstone.workspace.reading import find_subject, read_workspace


def _kinds(place: Any) -> list[str]:
    with read_workspace(place.site) as view:
        return [item.kind for item in view.evidence.statements]


def _training(place: Any, subject: Subject, by: str = "alice") -> bytes:
    said = Training(place.made(), "numpy", {}, {"accuracy": "1"}, Input("d", Digest("ee" * 32)))
    return make_statement(subject, said, place.keys[by]).to_json()


def test_every_step_is_taken_told_and_recorded(home: Any) -> None:
    with home.open() as workspace:
        admitted = home.submit(workspace)
        answer = admitted.loaded.runtime.predict({"x": np.array([[1, 2, 3]], dtype=np.float32)})
    assert home.heard.steps == ["stage", "scan", "origin", "gate", "seal", "load"]
    assert len(home.heard.told) == len(home.heard.steps)
    assert _kinds(home) == ["scan", "admission", "sealing"]
    assert answer["y"].tolist() == [[2.0, 4.0, 6.0]]
    assert admitted.verdict.not_proven == ("origin", "robustness")
    assert list(home.layout.staging.iterdir()) == []


def test_an_admission_says_what_it_rests_on(home: Any) -> None:
    with home.open() as workspace:
        admitted = home.submit(workspace)
        (said,) = [
            item.predicate
            for item in workspace.evidence.statements
            if isinstance(item.predicate, Admission)
        ]
        (scan,) = [
            item.digest
            for item in workspace.evidence.statements
            if isinstance(item.predicate, Scan)
        ]
    assert said.evidence == (scan,)
    assert said.contract == admitted.contract.digest
    assert said.policy == admitted.verdict.policy
    # The head it was given at: the workspace's event and the scan.
    assert said.ledger.size == 2


def test_a_scan_that_still_counts_is_not_made_again(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "scan_staged", None)
    with served.open() as workspace:
        assert served.submit(workspace).verdict.allowed
    assert served.heard.told[1] == "clean, by a scan that still counts"
    assert _kinds(served) == ["scan", "admission", "sealing", "admission"]


def test_other_rules_or_an_age_that_the_policy_refuses_ask_for_a_new_scan(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served.open() as workspace:
        monkeypatch.setattr(room, "RULES_VERSION", "another")
        served.submit(workspace)
        monkeypatch.undo()
        assert _kinds(served).count("scan") == 2
        served.edit_policy('\nresult = "clean"', '\nresult = "clean"\nmax_age = "1d"')
        workspace.reload_policy()
        served.clock.now += 86_400_000 - 1
        served.submit(workspace)
        assert _kinds(served).count("scan") == 2
        served.clock.now += 1
        served.submit(workspace)
        assert _kinds(served).count("scan") == 3


def test_a_changed_model_is_another_subject(served: Any, subject: Subject) -> None:
    with served.open() as workspace:
        other = served.submit(workspace, served.model(scale=3.0))
    assert other.verdict.subject.name == subject.name
    assert other.verdict.subject.digest != subject.digest


def test_a_model_changed_after_it_was_staged_changes_nothing(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swapped between scan and load: what is loaded is the copy that was judged."""
    model = home.model()
    scan = room.scan_staged

    def swap(staged: Any) -> Any:
        home.model(scale=666.0)
        return scan(staged)

    monkeypatch.setattr(room, "scan_staged", swap)
    with home.open() as workspace:
        admitted = home.submit(workspace, model)
        answer = admitted.loaded.runtime.predict({"x": np.ones((1, 3), dtype=np.float32)})
    assert answer["y"].tolist() == [[2.0, 2.0, 2.0]]


@pytest.mark.parametrize("how", ["swapped", "flipped", "cut"])
def test_a_blob_that_was_changed_in_the_vault_is_never_loaded(
    served: Any, monkeypatch: pytest.MonkeyPatch, how: str, code: Callable[..., str]
) -> None:
    """Changed between seal and load: by whoever can write to the artifact store."""
    seal = sealing.seal

    def change(staged: Any, store: Any, *rest: Any) -> Any:
        sealed = seal(staged, store, *rest)
        mine = store.path(staged.digest, "scale")
        (other,) = (path for path in served.layout.vault.rglob("*.sealed") if path != mine)
        data = mine.read_bytes()
        middle = len(data) // 2
        mine.write_bytes(
            {
                "swapped": other.read_bytes(),
                "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
                "cut": data[:-1],
            }[how]
        )
        return sealed

    with served.open() as workspace:
        served.submit(workspace, served.model("other.onnx", scale=3.0))
        subject = Subject("scale", served.submit(workspace).verdict.subject.digest)
        workspace.store.delete(subject.digest, "scale")
        monkeypatch.setattr(sealing, "seal", change)
        assert code(served.submit, workspace, served.model()).endswith("/1")
        monkeypatch.undo()
        # What is submitted again is sealed again; a blob that is no good is not reused.
        answer = served.submit(workspace).loaded.runtime.predict(
            {"x": np.ones((1, 3), dtype=np.float32)}
        )
    assert answer["y"].tolist() == [[2.0, 2.0, 2.0]]


# What is refused, and that nothing is left of it


def _bad(root: Path) -> dict[str, bytes]:
    whole = (root / "scale.onnx").read_bytes()
    return {
        "empty": b"",
        "truncated": whole[:-20],
        "text": b"hello, I am no model\n" * 9,
        "safetensors": b"\x02\0\0\0\0\0\0\0{}",
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "data": b"\x80\x04K\x01.",
        "zeros": bytes(4096),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("empty", "model.empty/2"),
        ("truncated", "gate.denied/1"),
        ("text", "runtime.missing/3"),
        ("safetensors", "contract.missing/2"),
        ("pickle", "gate.denied/1"),
        ("data", "runtime.missing/3"),
        ("zeros", "runtime.missing/3"),
    ],
)
def test_a_bad_model_is_refused_with_its_reason(
    home: Any, code: Callable[..., str], name: str, expected: str
) -> None:
    home.model()
    path = home.root / f"{name}.bin"
    path.write_bytes(_bad(home.root)[name])
    with home.open() as workspace:
        assert code(home.submit, workspace, path) == expected
    assert list(home.layout.staging.iterdir()) == []
    assert list(home.layout.vault.rglob("*.sealed")) == []
    denied = home.events("admission.denied")
    assert len(denied) == (1 if expected.startswith("gate") else 0)


def test_what_is_not_there_or_no_file_is_refused(home: Any, code: Callable[..., str]) -> None:
    (home.root / "folder").mkdir()
    os.mkfifo(home.root / "pipe")
    with home.open() as workspace:
        for name, expected in (
            ("none.onnx", "model.missing/2"),
            ("folder", "model.empty/2"),
            ("pipe", "model.not_regular/2"),
        ):
            assert code(home.submit, workspace, home.root / name) == expected
    assert list(home.layout.staging.iterdir()) == []


def test_a_model_that_was_not_evaluated_is_not_clean(
    home: Any, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from keepstone.core.finding import Outcome

    scan = room.scan_staged
    monkeypatch.setattr(
        room, "scan_staged", lambda staged: replace(scan(staged), outcome=Outcome.NOT_EVALUATED)
    )
    with home.open() as workspace:
        assert code(home.submit, workspace) == "scan.not_evaluated/3"
        # It is on the record, and a second try asks again instead of believing it.
        home.clock.now += 1
        assert code(home.submit, workspace) == "scan.not_evaluated/3"
    assert _kinds(home) == ["scan", "scan"]


def test_an_expired_disk_in_the_middle_leaves_nothing_staged(
    home: Any, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise OperationalError("ledger.disk_full", "Full.")

    with home.open() as workspace:
        monkeypatch.setattr(Workspace, "_append", fail)
        assert code(home.submit, workspace) == "ledger.disk_full/3"
        monkeypatch.undo()
    assert list(home.layout.staging.iterdir()) == []


# The origin


def test_a_publishers_signature_and_training_prove_the_origin(home: Any) -> None:
    model = home.model()
    bundle = model.with_name("scale.onnx.sig")
    bundle.write_bytes(sign_model(model, home.keys["alice"]))
    with home.open() as workspace:
        first = home.submit(workspace, model)
        statements = model.with_name("scale.onnx.statements.jsonl")
        line = _training(home, first.verdict.subject)
        statements.write_bytes(line + b"\n\n" + line + b"\n")
        admitted = home.submit(workspace, model)
        assert home.heard.told[2] == "signed by alice; training by alice; training known"
        again = home.submit(workspace, model)
    assert admitted.verdict.not_proven == ("robustness",)
    assert again.verdict.allowed
    kinds = _kinds(home)
    # Saying a thing again adds nothing to the record.
    assert (kinds.count("signature"), kinds.count("training")) == (1, 1)


def test_a_signature_states_what_was_observed_and_by_whom(home: Any) -> None:
    model = home.model()
    bundle = sign_model(model, home.keys["alice"])
    model.with_name("scale.onnx.sig").write_bytes(bundle)
    with home.open() as workspace:
        home.submit(workspace, model)
        (item,) = [
            each for each in workspace.evidence.statements if isinstance(each.predicate, Signature)
        ]
        assert isinstance(item.predicate, Signature)
        assert item.predicate.bundle == Digest.of(bundle)
        assert item.predicate.publisher == home.keys["alice"].key_id
        assert item.signers == (workspace.keys.observer.key_id,)


@pytest.mark.parametrize("shards", [False, True])
def test_a_signature_over_shards_is_observed_on_the_staged_copy(home: Any, shards: bool) -> None:
    model = home.model()
    bundle = sign_model(model, home.keys["alice"], shards=shards)
    model.with_name("scale.onnx.sig").write_bytes(bundle)
    with home.open() as workspace:
        assert "origin" not in home.submit(workspace, model).verdict.not_proven
    other = sign_model(home.model("other.onnx", 3.0), home.keys["alice"], shards=shards)
    model.with_name("scale.onnx.sig").write_bytes(other)
    with home.open() as workspace, pytest.raises(VerificationError, match=r"model\.mismatch"):
        home.submit(workspace, model)


def test_a_digest_that_was_only_remembered_proves_no_origin(home: Any) -> None:
    """A publisher who signs by stale metadata signs other bytes than those that are staged."""
    model = home.model()
    stamp = Stamp.of(model.stat())
    stale = Memory(str(model), {".": Remembered(stamp, Digest.of(b"as it was"))})
    bundle, found = sign_incrementally(model, home.keys["alice"], stale)
    assert found.files[0].unchanged_by_metadata
    model.with_name("scale.onnx.sig").write_bytes(bundle)
    with home.open() as workspace, pytest.raises(VerificationError, match=r"model\.mismatch"):
        home.submit(workspace, model)


def test_a_strangers_signature_and_statement_count_for_nothing(home: Any) -> None:
    model = home.model()
    model.with_name("scale.onnx.sig").write_bytes(sign_model(model, home.keys["stranger"]))
    with home.open() as workspace:
        subject = home.submit(workspace, model).verdict.subject
        statements = model.with_name("scale.onnx.statements.jsonl")
        lines = [_training(home, subject, by) for by in ("stranger", "bob")]
        statements.write_bytes(b"\n".join(lines))
        admitted = home.submit(workspace, model)
    assert "origin" in admitted.verdict.not_proven
    assert len(home.heard.warnings) == 3
    assert set(_kinds(home)) == {"scan", "admission", "sealing"}


def test_a_signature_of_something_else_refuses_the_model(
    home: Any, code: Callable[..., str]
) -> None:
    other = home.model("other.onnx", scale=3.0)
    model = home.model()
    model.with_name("scale.onnx.sig").write_bytes(sign_model(other, home.keys["alice"]))
    with home.open() as workspace:
        assert code(home.submit, workspace, model).endswith("/1")
        model.with_name("scale.onnx.sig").write_bytes(b"not a bundle")
        assert code(home.submit, workspace, model).endswith("/2")
    assert "admission" not in _kinds(home)


def test_a_statement_about_something_else_refuses_the_model(
    home: Any, never: Digest, code: Callable[..., str]
) -> None:
    model = home.model()
    statements = model.with_name("scale.onnx.statements.jsonl")
    statements.write_bytes(_training(home, Subject("scale", never)))
    with home.open() as workspace:
        assert code(home.submit, workspace, model) == "statement.wrong_subject/1"
        statements.write_bytes(b"{}")
        assert code(home.submit, workspace, model) == "envelope.malformed/2"
    assert "admission" not in _kinds(home)


def test_a_statement_that_was_tampered_with_refuses_the_model(
    home: Any, code: Callable[..., str]
) -> None:
    model = home.model()
    with home.open() as workspace:
        subject = home.submit(workspace, model).verdict.subject
        said = json.loads(_training(home, subject))
        other = json.loads(_training(home, subject, "bob"))
        said["signatures"][0]["sig"] = other["signatures"][0]["sig"]
        model.with_name("scale.onnx.statements.jsonl").write_text(json.dumps(said))
        assert code(home.submit, workspace, model).endswith("/1")
    assert "training" not in _kinds(home)


def test_side_files_that_cannot_be_read_refuse_the_model(
    home: Any, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = home.model()
    bundle = model.with_name("scale.onnx.sig")
    bundle.mkdir()
    with home.open() as workspace:
        assert code(home.submit, workspace, model) == "file.unreadable/2"
        bundle.rmdir()
        bundle.write_bytes(b"x" * 200)
        monkeypatch.setattr(room, "_SIDE_FILE_LIMIT", 100)
        assert code(home.submit, workspace, model) == "file.too_large/2"


def test_production_asks_for_all_of_it(bare: Any, code: Callable[..., str]) -> None:
    place = bare.create("production").with_people()
    model = place.model()
    with place.open() as workspace:
        with pytest.raises(DeniedError) as caught:
            place.submit(workspace, model)
        assert caught.value.code == "gate.denied"
        with read_workspace(place.site) as view:
            subject = find_subject(view.evidence, "scale")
        model.with_name("scale.onnx.sig").write_bytes(sign_model(model, place.keys["alice"]))
        statements = model.with_name("scale.onnx.statements.jsonl")
        statements.write_bytes(_training(place, subject))
        assert code(place.submit, workspace, model) == "gate.denied/1"
        workspace.record(place.approval(subject))
        admitted = place.submit(workspace, model)
    assert admitted.verdict.profile == "production"
    assert admitted.verdict.not_proven == ("robustness",)


# Names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("digits.onnx", "digits"),
        ("My Model (v2).onnx", "my-model-v2"),
        ("a..b.onnx", "a.b"),
        ("...", "model"),
        ("Ünïcode.onnx", "n-code"),
        (".onnx", "onnx"),
        ("x" * 200 + ".onnx", "x" * 64),
        ("/", "model"),
        (".", "model"),
        ("..", "model"),
    ],
)
def test_a_file_is_served_under_its_own_name_as_far_as_names_go(path: str, name: str) -> None:
    assert name_of(Path(path)) == name
    assert Submission.of(Path(path)).name == name


def test_what_lies_beside_a_model_comes_with_it(home: Any, code: Callable[..., str]) -> None:
    model = home.model()
    assert (Submission.of(model).signature, Submission.of(model).statements) == (None, None)
    model.with_name("scale.onnx.sig").touch()
    model.with_name("scale.onnx.statements.jsonl").touch()
    found = Submission.of(model, name="given")
    assert (found.name, found.signature, found.statements) == (
        "given",
        model.with_name("scale.onnx.sig"),
        model.with_name("scale.onnx.statements.jsonl"),
    )
    assert code(Submission.of, model, name="../etc").endswith("/2")
