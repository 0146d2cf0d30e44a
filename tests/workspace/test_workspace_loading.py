"""A model in a program's hands: judged when it is loaded, and again while it answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepstone
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError
from keepstone.workspace.control import ControlServer
from keepstone.workspace.loading import load
from keepstone.workspace.operations import execute
from keepstone.workspace.reference import LIBRARY, Reference
from keepstone.workspace.statements import reinstate, revoke

ROW = np.ones((1, 3), np.float32)


def test_a_name_loads_what_was_admitted_last(served: Any, subject: Subject) -> None:
    model = load("scale", workspace=served.site)
    assert model.predict(ROW)["y"].tolist() == [[2.0, 2.0, 2.0]]
    assert model.predict({"x": ROW})["y"].tolist() == [[2.0, 2.0, 2.0]]
    assert (model.name, model.digest) == ("scale", subject.digest)
    assert model.admission.endpoint == LIBRARY
    assert repr(model) == f"Model('scale@{subject.digest}', format='onnx')"
    assert model.contract.inputs[0].name == "x"
    # The load is on the record, and nothing was scanned or sealed for it.
    said = [entry["predicate"] for entry in _statements(served)]
    assert said == ["scan", "admission", "sealing", "admission"]


def _statements(place: Any) -> list[dict[str, Any]]:
    from keepstone.workspace.history import newest

    return [entry for entry in newest(place.site, 99) if entry["kind"] == "statement"]


def test_a_digest_loads_that_one_and_no_other(served: Any, subject: Subject) -> None:
    with served.open() as workspace:
        served.submit(workspace, served.model(scale=3.0))
    assert load("scale", workspace=served.site).predict(ROW)["y"].tolist() == [[3.0, 3.0, 3.0]]
    older = load(f"scale@{subject.digest}", workspace=served.site)
    assert older.predict(ROW)["y"].tolist() == [[2.0, 2.0, 2.0]]


def test_what_cannot_be_meant_is_said(served: Any, code: Callable[..., str]) -> None:
    for text, expected in (
        ("other", "model.never_admitted/2"),
        (f"scale@sha256:{'0' * 64}", "model.never_admitted/2"),
        ("scale@prod", "registry.not_found/2"),
        ("scale@sha256:1", "digest.malformed/2"),
        ("../scale", "name.invalid/2"),
    ):
        assert code(load, text, workspace=served.site) == expected
    assert code(load, "scale", workspace=served.root / "nothing") == "workspace.missing/2"


def test_a_revoked_model_is_denied_and_that_is_on_the_record(served: Any, subject: Subject) -> None:
    """This fails if an admission from before is believed instead of asking the gate."""
    revocation = revoke(served.site, "artifact", "scale", served.keys["carol"], "poisoned")
    assert revocation.subject == subject
    with pytest.raises(DeniedError) as caught:
        load("scale", workspace=served.site)
    assert caught.value.code == "gate.revoked"
    assert served.events("admission.denied")[-1]["rule"] == "guard.revoked"
    reinstate(served.site, "scale", served.keys["dave"], "it was a mistake")
    assert load("scale", workspace=served.site).predict(ROW)


def test_a_model_that_is_revoked_later_stops_answering(served: Any) -> None:
    """At the latest when its admission would have been renewed."""
    model = load("scale", workspace=served.site)
    first = model.admission
    life = first.expires - first.issued
    served.clock.now += life * 2 // 3 - 1
    model.predict(ROW)
    assert model.admission == first
    served.clock.now += 1
    model.predict(ROW)
    assert model.admission != first
    revoke(served.site, "artifact", "scale", served.keys["carol"], "poisoned")
    served.clock.now += life
    for _ in range(2):
        with pytest.raises(DeniedError) as caught:
            model.predict(ROW)
        assert caught.value.code == "gate.revoked"


def test_a_clock_set_back_revives_nothing(served: Any) -> None:
    model = load("scale", workspace=served.site)
    life = model.admission.expires - model.admission.issued
    served.clock.now += life
    model.predict(ROW)
    revoke(served.site, "artifact", "scale", served.keys["carol"], "poisoned")
    served.clock.now += life
    with pytest.raises(DeniedError):
        model.predict(ROW)
    served.clock.now -= 3 * life
    with pytest.raises(DeniedError):
        model.predict(ROW)


def test_inputs_are_held_to_the_contract(served: Any, code: Callable[..., str]) -> None:
    model = load("scale", workspace=served.site)
    for given, expected in (
        (np.ones((1, 4), np.float32), "request.bad_shape/2"),
        (np.ones((1, 3), np.float64), "request.bad_dtype/2"),
        (np.full((1, 3), np.nan, np.float32), "request.not_finite/2"),
        ({"y": ROW}, "request.wrong_inputs/2"),
        ({}, "request.wrong_inputs/2"),
    ):
        assert code(model.predict, given) == expected


def test_a_rolled_back_blob_is_not_loaded(served: Any, subject: Subject) -> None:
    """A blob that was sound until the same artifact was sealed again."""
    with served.open() as workspace:
        path = workspace.store.path(subject.digest, "scale")
        old = path.read_bytes()
        path.write_bytes(b"damaged, so that it is sealed again")
        served.submit(workspace, served.model())
    assert load("scale", workspace=served.site).predict(ROW)
    path.write_bytes(old)
    with pytest.raises(keepstone.errors.VerificationError) as caught:
        load("scale", workspace=served.site)
    assert caught.value.code == "seal.rolled_back"


def test_beside_a_running_owner_the_owner_is_asked(served: Any) -> None:
    with served.open() as workspace:
        control = ControlServer(served.layout, lambda *asked: execute(workspace, *asked))
        try:
            found: list[Any] = []
            thread = threading.Thread(
                target=lambda: found.append(load("scale", workspace=served.site).predict(ROW))
            )
            thread.start()
            thread.join()
        finally:
            control.close()
    assert found[0]["y"].tolist() == [[2.0, 2.0, 2.0]]


def test_an_admission_for_something_else_is_not_taken(
    served: Any, subject: Subject, monkeypatch: pytest.MonkeyPatch, code: Callable[..., str]
) -> None:
    """What comes back from the owner is verified as if anybody had sent it."""
    from keepstone.workspace import loading

    with served.open() as workspace:
        served.submit(workspace, served.model("other.onnx", scale=3.0))
    real = loading.perform
    other: dict[str, Any] = real(served.site, "model.admit", {"model": "other"})
    monkeypatch.setattr(loading, "perform", lambda *_: other)
    assert code(load, "scale", workspace=served.site) == "admission.wrong_name/1"
    asked = f"scale@{subject.digest}"
    assert code(load, asked, workspace=served.site) == "admission.wrong_artifact/1"
    forged = {**other, "digest": subject.digest.hex}
    monkeypatch.setattr(loading, "perform", lambda *_: forged)
    assert code(load, "scale", workspace=served.site) == "admission.wrong_artifact/1"


def test_the_public_name_takes_a_folder(
    served: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KEEPSTONE_OUTSIDE", str(served.site.outside))
    monkeypatch.setattr("keepstone.workspace.site.SystemClock", lambda: served.clock)
    assert keepstone.load("scale", workspace=served.layout.root).predict(ROW)
    assert isinstance(keepstone.load("scale", workspace=served.site), keepstone.Model)


def test_references_parse() -> None:
    assert Reference.parse("digits") == Reference("digits")
    found = Reference.parse(f"digits@sha256:{'a' * 64}")
    assert found.digest is not None
    with pytest.raises(InputError):
        Reference.parse("digits@")
