"""A fingerprint from its making to an auditor's verification, and what may not be done with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.core.canonical import canonical
from keepstone.errors import VerificationError
from keepstone.lab.ownership.crossings import Kind
from keepstone.lab.ownership.judge import ASSUMED_RATE, Outcome
from keepstone.workspace.fingerprint import Check, Wanted, check_file, check_target, create
from keepstone.workspace.fingerprint_opening import open_fingerprint, verify_opening
from keepstone.workspace.fingerprint_record import find, fingerprints, secret_questions
from keepstone.workspace.kek import begin_rotation
from keepstone.workspace.opened import open_workspace
from keepstone.workspace.proving import vkey_of
from keepstone.workspace.statements import revoke
from tests.nets import CLASSES, WIDTH, save


def admit(home: Any, path: Path, name: str = "net") -> None:
    with home.open() as workspace:
        home.submit(workspace, path, name=name)


@pytest.fixture(scope="module")
def _marked(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    from tests.workspace.conftest import Home

    root = tmp_path_factory.mktemp("marked")
    home = Home(root).create().with_people()
    admit(home, save(root / "net.onnx", 1))
    return root, create(home.site, Wanted("net", 80)).name


@pytest.fixture
def marked(tmp_path: Path, _marked: Any) -> Any:
    """A workspace with an admitted model and one fingerprint of it, called `marked.name`."""
    from tests.workspace.conftest import Home

    root, name = _marked
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    home = Home(tmp_path)
    home.name = name
    return home


def check(home: Any, path: Path, **given: Any) -> Check:
    return check_file(home.site, home.name, path, **given)


def test_a_copy_matches_and_an_independent_model_does_not(marked: Any) -> None:
    same = check(marked, save(marked.root / "same.onnx", 1, scale=2.0, declared=False))
    assert same.judgement.outcome is Outcome.MATCH
    assert (same.judgement.matches, same.judgement.answered) == (80, 80)
    other = check(marked, save(marked.root / "other.onnx", 2))
    assert other.judgement.outcome is Outcome.NO_MATCH
    outcomes = [event["outcome"] for event in marked.events("fingerprint.checked")]
    assert outcomes == ["match", "no match"]


def test_it_is_committed_before_anything_is_asked_and_reads_back(marked: Any) -> None:
    (entry,) = marked.events("fingerprint.committed")
    assert len(entry["committed"]) == 80
    (found,) = fingerprints(marked.site)
    assert found.to_dict()["null"] == "assumed"
    assert found.to_dict()["null_rate"] == "0.2500"
    # Neither a question, nor an answer, nor what they were drawn from is in the ledger.
    secret, openings = secret_questions(marked.site, found)
    text = json.dumps(marked.entries())
    assert secret.seed.hex() not in text
    assert openings[0].salt.hex() not in text
    assert openings[0].to_dict()["rows"] not in text
    body = (marked.layout.fingerprints / f"{found.name}.bin").read_bytes()
    assert b"rows" not in body
    assert oct((marked.layout.fingerprints / f"{found.name}.bin").stat().st_mode)[-3:] == "600"


def test_independent_models_set_the_null(marked: Any) -> None:
    apart = tuple(save(marked.root / f"apart{n}.onnx", 20 + n) for n in range(2))
    found = create(marked.site, Wanted("net", 60, independent=apart))
    assert (found.null.models, found.null.how) == (2, "measured on 2 independent models")
    assert found.null.rate < 0.25


def test_a_copy_that_is_called_independent_is_not_believed(
    marked: Any, code: Callable[..., str]
) -> None:
    """Else the owner's own slip would make every thief look independent."""
    copied = save(marked.root / "copied.onnx", 1)
    wanted = Wanted("net", 60, independent=(copied,))
    assert code(create, marked.site, wanted) == "fingerprint.weak/2"
    assert len(fingerprints(marked.site)) == 1


def test_the_output_that_is_meant_is_asked_of_independent_models_too(
    marked: Any, code: Callable[..., str]
) -> None:
    apart = (save(marked.root / "apart.onnx", 20),)
    for given in ({"independent_output": "no"}, {"output": "scores", "independent_output": "no"}):
        wanted = Wanted("net", 60, independent=apart, **given)
        assert code(create, marked.site, wanted) == "fingerprint.no_output/2"
    named = save(marked.root / "named.onnx", 20, label="class", scores="own")
    wanted = Wanted("net", 60, output="scores", independent=(named,))
    assert code(create, marked.site, wanted) == "fingerprint.no_output/2"
    found = create(marked.site, replace(wanted, independent_output="own"))
    assert found.null.models == 1


def test_an_independent_model_with_other_labels_measures_nothing(
    marked: Any, code: Callable[..., str]
) -> None:
    other = save(marked.root / "other.onnx", 20, offset=100)
    wanted = Wanted("net", 60, independent=(other,))
    assert code(create, marked.site, wanted) == "fingerprint.other_answers/2"


def test_a_fingerprint_that_nothing_could_match_is_not_made_nor_opened(
    marked: Any, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code(open_fingerprint, marked.site, marked.name, 6) == "fingerprint.too_few/2"
    assert marked.events("fingerprint.opened") == []
    monkeypatch.setitem(ASSUMED_RATE, Kind.LABEL, 0.5)
    assert code(create, marked.site, Wanted("net", 13)) == "fingerprint.too_few/2"
    assert len(fingerprints(marked.site)) == 1


def test_only_an_admitted_model_is_marked(marked: Any, code: Callable[..., str]) -> None:
    assert code(create, marked.site, Wanted("other")) == "model.never_admitted/2"
    revoke(marked.site, "artifact", "net", marked.keys["carol"], "poisoned")
    assert code(create, marked.site, Wanted("net", 20)) == "gate.revoked/1"
    assert code(create, marked.site, Wanted("net", 5)) == "fingerprint.bad_count/2"
    assert code(create, marked.site, Wanted("net", 401)) == "fingerprint.bad_count/2"


def test_ranges_are_declared_or_given(home: Any, code: Callable[..., str]) -> None:
    admit(home, save(home.root / "net.onnx", 1, declared=False))
    assert code(create, home.site, Wanted("net", 20)) == "fingerprint.no_range/2"
    assert create(home.site, Wanted("net", 20, low=-3.0, high=3.0)).width == WIDTH
    assert code(create, home.site, Wanted("net", 20, output="no")) == "fingerprint.no_output/2"
    scores = create(home.site, Wanted("net", 20, output="scores", low=-3.0, high=3.0))
    assert scores.kind == "label"


# Suspects


def test_a_suspect_that_the_scanner_flags_is_never_loaded(
    marked: Any, code: Callable[..., str]
) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (marked.root / "ran",))

    evil = marked.root / "evil.pkl"
    evil.write_bytes(pickle.dumps(Evil()))
    assert code(check, marked, evil) in ("target.flagged/1", "scan.not_evaluated/3")
    plain = marked.root / "plain.pkl"
    plain.write_bytes(pickle.dumps({"a": [1, 2.0]}))
    # Clean as a pickle goes, and still nothing that is loaded.
    assert code(check, marked, plain) == "target.format/3"
    assert not (marked.root / "ran").exists()
    assert marked.events("fingerprint.checked") == []


def test_what_is_no_model_or_takes_something_else_is_said(
    marked: Any, code: Callable[..., str]
) -> None:
    broken = marked.root / "broken.onnx"
    broken.write_bytes(save(marked.root / "x.onnx", 1).read_bytes()[:-40])
    assert code(check, marked, broken).split("/")[0] in ("target.flagged", "scan.not_evaluated")
    assert code(check, marked, marked.root / "missing") == "model.missing/2"
    assert code(check, marked, marked.model()) == "fingerprint.other_inputs/2"
    copied = save(marked.root / "copied.onnx", 1)
    assert code(check, marked, copied, output="nothing") == "fingerprint.no_output/2"
    assert code(check_file, marked.site, "fp-0", copied) == "fingerprint.unknown/2"


def test_the_child_cannot_write_or_start_anything(marked: Any) -> None:
    """As it is after it loaded a model: the limits are on the process, not on the model."""
    from keepstone.workspace.suspect import open_suspect

    with open_suspect(save(marked.root / "copied.onnx", 1)) as suspect:
        child = suspect.target._child
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        status = Path(f"/proc/{child.pid}/status").read_text()
    assert child.poll() is not None
    found = {line[:25].strip(): line[25:].split()[:2] for line in limits.splitlines()}
    assert found["Max file size"] == ["0", "0"]
    assert found["Max processes"] == ["0", "0"]
    assert found["Max core file size"] == ["0", "0"]
    assert "NoNewPrivs:\t1" in status


def test_a_suspect_of_another_format_is_asked_too(marked: Any, need_module: Any) -> None:
    lightgbm = need_module("lightgbm")
    draw = np.random.default_rng(0)
    rows, labels = draw.normal(size=(300, WIDTH)), draw.integers(0, CLASSES, 300)
    settings = {"objective": "multiclass", "num_class": CLASSES, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, labels), 5)
    path = marked.root / "trees.txt"
    booster.save_model(str(path))
    assert check(marked, path).judgement.outcome is Outcome.NO_MATCH


def test_a_throttled_endpoint_is_insufficient(marked: Any) -> None:
    found = check_target(marked.site, marked.name, lambda rows: [None] * len(rows), "https://x m")
    assert found.judgement.outcome is Outcome.INSUFFICIENT
    assert found.to_dict()["answered"] == 0


# Tampering


def test_questions_that_were_changed_are_refused(marked: Any, code: Callable[..., str]) -> None:
    path = marked.layout.fingerprints / f"{marked.name}.bin"
    copied = save(marked.root / "copied.onnx", 1)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert code(check, marked, copied) == "fingerprint.changed/1"
    path.unlink()
    assert code(check, marked, copied).split("/")[1] in ("2", "3")


def test_other_questions_under_the_same_secret_are_refused(
    marked: Any, code: Callable[..., str]
) -> None:
    """An owner who chose the questions after seeing the suspect would be found out."""
    from keepstone.workspace.fingerprint_record import write_body

    found = find(marked.site, marked.name)
    secret, openings = secret_questions(marked.site, found)
    write_body(marked.layout, marked.name, secret, openings[::-1])
    assert secret_questions(marked.site, found)
    write_body(marked.layout, marked.name, secret, openings[:-1])
    assert code(secret_questions, marked.site, found) == "fingerprint.changed/1"
    late = create(marked.site, Wanted("net", 60))
    _, others = secret_questions(marked.site, late)
    write_body(marked.layout, marked.name, secret, others)
    assert code(secret_questions, marked.site, found) == "fingerprint.changed/1"


def test_it_survives_a_new_key_encryption_key_and_a_passphrase_guards_it(marked: Any) -> None:
    begin_rotation(marked.site, None, into_file=True)
    with open_workspace(marked.site):
        pass
    assert secret_questions(marked.site, find(marked.site, marked.name))


# Opening


def test_an_auditor_verifies_with_the_ledgers_key_alone(marked: Any) -> None:
    found = find(marked.site, marked.name)
    data = open_fingerprint(marked.site, marked.name, 40)
    opened = verify_opening(data, vkey_of(marked.site))
    assert opened.fingerprint == found
    assert len(opened.openings) == 40
    assert marked.events("fingerprint.opened") == [
        {**marked.events("fingerprint.opened")[0], "id": marked.name, "count": 40}
    ]
    whole = verify_opening(open_fingerprint(marked.site, marked.name), vkey_of(marked.site))
    assert len(whole.openings) == 80


def test_a_forged_opening_is_refused(marked: Any, code: Callable[..., str]) -> None:
    data = open_fingerprint(marked.site, marked.name, 7)
    vkey = vkey_of(marked.site)
    value = json.loads(data)

    def forged(**change: Any) -> bytes:
        return canonical(value | change)

    swapped = [dict(one) for one in value["crossings"]]
    swapped[0]["answers"] = swapped[0]["answers"][::-1]
    assert code(verify_opening, forged(crossings=swapped), vkey) == "fingerprint.changed/1"
    assert code(verify_opening, forged(crossings=[]), vkey) == "fingerprint.malformed/2"
    assert code(verify_opening, forged(proof="x"), vkey) == "proof.malformed/2"
    assert code(verify_opening, forged(schema="x/v9"), vkey) == "fingerprint.newer_version/2"
    assert code(verify_opening, forged(more=1), vkey) == "fingerprint.malformed/2"
    assert code(verify_opening, b"[]", vkey) == "fingerprint.malformed/2"
    # The commitment of another ledger, or an entry that is no commitment.
    from tests.workspace.conftest import Home

    stranger = Home(marked.root / "stranger").create()
    with pytest.raises(VerificationError):
        verify_opening(data, vkey_of(stranger.site))
    from keepstone.workspace.proving import prove_entry

    other = prove_entry(marked.site, "1").text
    assert code(verify_opening, forged(proof=other), vkey) == "fingerprint.malformed/2"


def test_beside_a_running_owner_the_owner_records(marked: Any) -> None:
    from keepstone.workspace.control import ControlServer
    from keepstone.workspace.operations import execute

    with marked.open() as workspace:
        control = ControlServer(marked.layout, lambda *asked: execute(workspace, *asked))
        try:
            found = create(marked.site, Wanted("net", 20))
        finally:
            control.close()
    assert secret_questions(marked.site, found)


def test_the_owner_takes_no_other_event_for_one(marked: Any, code: Callable[..., str]) -> None:
    from keepstone.workspace.operations import perform

    given = {"event": "policy.loaded", "fields": {}}
    assert code(perform, marked.site, "fingerprint.record", given) == "control.malformed/2"
    (entry,) = marked.events("fingerprint.committed")
    fields = {k: v for k, v in entry.items() if k not in ("event", "kind", "t")}
    for broken in ({}, {"type": "x"}, {"null_rate": "2"}, {"committed": ["x"]}, {"more": 1}):
        said = {"id": "fp-new", **(fields | broken if broken else {})}
        given = {"seed": "AAAA", "fields": said}
        assert code(perform, marked.site, "fingerprint.commit", given).endswith("/2")
    # Nothing of it is in the ledger, which every reader still understands.
    assert len(fingerprints(marked.site)) == 1
