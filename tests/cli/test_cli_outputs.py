"""Where results go: looked at before anything is attacked, and nothing is lost by it afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from keepstone.cli.main import run
from keepstone.errors import OperationalError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.statement import open_payload
from keepstone.vault.staging import stage
from tests import trainers
from tests.nets import WIDTH, save

Need = Callable[[str], ModuleType]
QUICK = ("--norm", "linf", "--eps", "0.001", "--budget", "5")
CONTRACT = {
    "schema": "keepstone.contract/v1",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, WIDTH], "low": -3, "high": 3}],
    "outputs": [
        {"name": "predict", "datatype": "INT64", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]},
    ],
}
REQUIRE = """
[[require]]
evidence = "robustness"
role = "red-team"
norm = "linf"
eps = 0.001
at_least = 0.5
"""
TRAINER = """
def tree(x, y, seed):
    from sklearn.tree import DecisionTreeClassifier
    return DecisionTreeClassifier(random_state=seed).fit(x, y)
"""


@pytest.fixture
def net(place: Any) -> Path:
    """A small network, and rows that it labels itself, in two parts."""
    path = save(place.root / "net.onnx", 1)
    session = onnxruntime.InferenceSession(path.read_bytes())
    x = np.random.default_rng(0).uniform(-3, 3, (400, WIDTH)).astype(np.float32)
    y = session.run(["label"], {session.get_inputs()[0].name: x})[0]
    for name, part in (("data", slice(None)), ("in", slice(200)), ("out", slice(200, None))):
        np.savez(place.root / f"{name}.npz", x=x[part], y=y[part])
    return path


class Here:
    """The same command line in this process, where what fails late can be made to."""

    def __init__(self, place: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self._capsys = capsys

    def run(self, *arguments: object) -> tuple[int, str, str]:
        self._capsys.readouterr()
        status = run(list(map(str, arguments)))
        told = self._capsys.readouterr()
        return status, told.out, told.err


@pytest.fixture
def here(place: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(place.root)
    for name in ("KEEPSTONE_WORKSPACE", "KEEPSTONE_OUTSIDE", "NO_COLOR"):
        monkeypatch.setenv(name, place.environment[name])
    monkeypatch.syspath_prepend(str(place.root))
    monkeypatch.delitem(sys.modules, "trainer", raising=False)
    return Here(place, capsys)


def refused(answer: tuple[int, str, str]) -> tuple[int, str]:
    status, out, err = answer
    assert out == "", out
    return status, err.partition("error[")[2].partition("]")[0]


# Before anything is read


@pytest.mark.parametrize(
    "command",
    [
        ("net.onnx", "--data", "gone.npz"),
        ("extract", "net.onnx", "--data", "gone.npz"),
        ("membership", "net.onnx", "--members", "gone.npz", "--nonmembers", "gone.npz"),
    ],
)
def test_a_report_replaces_no_device_and_no_file_unless_told(
    here: Here, net: Path, command: tuple[str, ...]
) -> None:
    """Told before the samples are read: there are none."""
    root = here.place.root
    (root / "mine.html").write_text("mine")
    os.mkfifo(root / "pipe")
    (root / "link.html").symlink_to(root / "mine.html")
    (root / "nothing.html").symlink_to(root / "new.html")
    for path, expected in (
        ("mine.html", (2, "file.exists")),
        ("pipe", (2, "file.not_plain")),
        ("link.html", (2, "file.not_plain")),
        ("nothing.html", (2, "file.not_plain")),
        ("nodir/r.html", (2, "file.missing")),
        ("new.html", (3, "data.unreadable")),
    ):
        assert refused(here.run("attack", *command, "--report", path)) == expected, path
    forced = ("--force", "--report")
    assert refused(here.run("attack", *command, *forced, "link.html")) == (2, "file.not_plain")
    assert refused(here.run("attack", *command, *forced, "mine.html")) == (3, "data.unreadable")
    assert (root / "mine.html").read_text() == "mine"


def test_a_report_is_written_over_with_force(here: Here, net: Path) -> None:
    path = here.place.root / "mine.html"
    path.write_text("mine")
    asked = ("attack", net, "--data", "data.npz", *QUICK, "--report", path, "--force")
    assert here.run(*asked)[0] == 3
    assert path.read_text().startswith("<!doctype html>")


def test_who_may_not_state_is_told_before_anything_is_attacked(here: Here, net: Path) -> None:
    place = here.place
    place.must("init")
    rita, olaf = place.signer("rita", "red-team"), place.signer("olaf", "waiver")
    place.must("signers", "create", "--out", "eve.pem")
    os.mkfifo(place.root / "pipe")
    rows = ("net.onnx", "--data", "gone.npz")
    audit = ("membership", "net.onnx", "--members", "gone.npz", "--nonmembers", "gone.npz")
    for command in (rows, audit):
        for given, expected in (
            ((rita,), (3, "data.unreadable")),
            ((rita, "-w", "nows"), (2, "workspace.missing")),
            ((olaf,), (1, "statement.no_right")),
            (("eve.pem",), (1, "signature.unknown_key")),
            # Of another workspace it may be.
            (("eve.pem", "--statement", "said.jsonl"), (3, "data.unreadable")),
            ((rita, "--statement", "nodir/s.jsonl"), (2, "file.missing")),
            ((rita, "--statement", "pipe"), (2, "file.not_plain")),
            ((rita, "--statement", "one", "--report", "one"), (2, "file.exists")),
        ):
            assert refused(here.run("attack", *command, "--as", *given)) == expected, given
    kept = ("--kept", "pipe", "--shadows", "2", "--train", "trainer:tree")
    assert refused(here.run("attack", *audit, *kept)) == (2, "file.not_plain")


def test_where_a_training_goes_is_told_before_it_is_trained(here: Here) -> None:
    place = here.place
    place.must("init")
    rita, olaf = place.signer("rita", "red-team"), place.signer("olaf", "waiver")
    os.mkfifo(place.root / "pipe")
    rows = ("--train", "trainer:tree", "--data", "gone.npz", "--held-out", "gone.npz")
    vote = ("harden", "partition", *rows, "--at-least", "0.5@1", "-o", "vote.skops")
    given: Any
    for given, expected in (
        (("harden", "trim", *rows, "-o", "pipe"), (2, "file.not_plain")),
        (("harden", "trim", *rows, "--kept", "pipe"), (2, "file.not_plain")),
        (("harden", "partition", *rows, "-o", "pipe"), (2, "file.not_plain")),
        ((*vote, "--as", rita), (3, "data.unreadable")),
        ((*vote, "--as", rita, "-w", "nows"), (2, "workspace.missing")),
        ((*vote, "--as", olaf), (1, "statement.no_right")),
        ((*vote, "--as", rita, "--statement", "pipe"), (2, "file.not_plain")),
        (("attack", "poisoning", *rows, "--write", "pipe"), (2, "file.not_plain")),
        (("attack", "poisoning", *rows, "--write", "pipe/in"), (2, "file.not_plain")),
        (("attack", "poisoning", *rows, "--write", "new/in"), (3, "data.unreadable")),
        (
            ("harden", "train", "x", *rows[2:], "-o", "pipe", "--force"),
            (2, "file.not_plain"),
        ),
    ):
        assert refused(here.run(*given)) == expected, given
    done = here.run(*vote, "--as", rita, "--statement", "vote.skops")
    assert (done[0], done[1]) == (2, "")


# Afterwards


def full(*_: object, **__: object) -> None:
    raise OperationalError("disk.full", "There is no room left.", "Free space.")


def test_what_was_found_is_told_where_it_cannot_be_written(
    here: Here, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = here.place
    place.must("init")
    key = place.signer("rita", "red-team")
    rows = (net, "--data", "data.npz", *QUICK)
    audit = ("membership", net, "--members", "in.npz", "--nonmembers", "out.npz")
    copy = ("extract", net, "--data", "data.npz", "--attack", "knockoff", "--budget", "20")
    signed = ("--as", key, "--statement", "said.jsonl")
    with monkeypatch.context() as at:
        at.setattr("keepstone.files.write_place", full)
        for command in (rows, audit, copy):
            stated = () if command is copy else signed
            asked = ("attack", *command, "--report", "r.html", *stated, "--format", "json")
            status, out, err = here.run(*asked)
            assert (status, "error[disk.full]" in err) == (3, True)
            found = json.loads(out)
            assert found["verdict"]
            # What can be written is.
            assert ("statement" in found) == bool(stated)
    assert len((place.root / "said.jsonl").read_text().splitlines()) == 2
    with monkeypatch.context() as at:
        at.setattr("keepstone.files.append_line", full)
        for command in (rows, audit):
            name = f"{len(command)}.html"
            status, out, err = here.run("attack", *command, "--report", name, *signed)
            assert (status, "error[disk.full]" in err) == (3, True)
            assert out.partition(":")[0] in ("pass", "insufficient")
            assert (place.root / name).exists()


@pytest.fixture
def trained(here: Here) -> tuple[str, ...]:
    (here.place.root / "trainer.py").write_text(TRAINER)
    for name, (x, y) in {"a": trainers.blobs(300, 0), "b": trainers.blobs(150, 1)}.items():
        np.savez(here.place.root / f"{name}.npz", x=x, y=y)
    return ("--train", "trainer:tree", "--data", "a.npz", "--held-out", "b.npz")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "late"),
    [
        (("attack", "poisoning", "--by", "label-flip", "--write", "sets"), "drilling.write_sets"),
        (("harden", "trim", "--kept", "kept.npz"), "hardening_files.write_kept"),
        (
            ("harden", "partition", "--k", "5", "--attacked", "2", "-o", "vote.skops", "--keep"),
            "hardening_files.write_vote",
        ),
    ],
)
def test_what_was_found_of_a_training_is_told_as_well(
    here: Here,
    trained: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    late: str,
) -> None:
    monkeypatch.setattr(f"keepstone.workspace.lab.{late}", full)
    status, out, err = here.run(*command, *trained, "--format", "json")
    assert (status, "error[disk.full]" in err) == (3, True)
    found = json.loads(out)
    assert found["verdict"]
    assert found.get("written") is None


# A contract beside the model


@pytest.fixture
def forest(place: Any, need_module: Need) -> Path:
    """A forest in skops' format, its contract, and rows in three files."""
    skops = need_module("skops.io")
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (400, WIDTH)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = RandomForestClassifier(5, max_depth=3, random_state=0).fit(x, y)
    path: Path = place.root / "rf.skops"
    skops.dump(model, path)
    (place.root / "c.json").write_text(json.dumps(CONTRACT))
    for name, part in (("data", slice(None)), ("in", slice(200)), ("out", slice(200, None))):
        np.savez(place.root / f"{name}.npz", x=x[part], y=y[part])
    return path


@pytest.mark.slow
def test_what_carries_no_contract_is_attacked_with_one_beside_it(
    here: Here, forest: Path, tmp_path: Path
) -> None:
    digest = str(stage(forest, tmp_path / "s", contract=here.place.root / "c.json").digest)
    data = ("--data", "data.npz")
    few = ("--samples", "20", "--budget", "5", "--norm", "linf", "--eps", "0.1")
    for command in (
        ("attack", forest, *data, *few),
        ("attack", forest, *data, *few, "--workers", "1"),
        ("attack", "membership", forest, "--members", "in.npz", "--nonmembers", "out.npz"),
        ("attack", "extract", forest, *data, "--attack", "copycat", "--budget", "10"),
        ("attack", "availability", forest, *data, "--budget", "1600", "--attack", "sponge"),
        ("harden", "inputs", forest, *data, "--by", "noise", *few),
        ("harden", "smooth", forest, *data, "--sigma", "0.1", "--draws", "20", "--samples", "5"),
        ("harden", "ensemble", forest, forest, *data, *few),
    ):
        status, out, err = here.run(*command, "--format", "json")
        assert (status, "error[contract.missing]" in err, out) == (2, True, ""), (command, err)
        status, out, err = here.run(*command, "--contract", "c.json", "--format", "json")
        assert status in (0, 1, 3), (command, err)
        found = json.loads(out)
        about = found["members"][1] if command[1] == "ensemble" else found
        assert (about["model"], about["digest"]) == ("rf", digest), command
    onnx = save(here.place.root / "net.onnx", 1)
    mixed = ("harden", "ensemble", forest, onnx, *data, *few)
    twice = ("--contract", "c.json", "--contract", "c.json")
    # The network says itself what it takes: one is left.
    assert here.run(*mixed, *twice)[0] == 2
    at = ("attack", "https://127.0.0.1:1", "--model", "rf", *data, "--contract", "c.json")
    assert here.run(*at)[0] == 2


@pytest.mark.slow
@pytest.mark.loopback
def test_evidence_of_a_model_with_a_contract_beside_it_is_taken_by_up(
    here: Here, forest: Path, error_code: Any
) -> None:
    place = here.place
    place.must("init")
    key = place.signer("rita", "red-team")
    policy = place.workspace / "policy.toml"
    policy.write_text(policy.read_text() + REQUIRE)
    served = (forest, "--contract", "c.json")
    done = place.run("up", *served, "--port", "0")
    assert (done.returncode, error_code(done)) == (1, "gate.denied")
    said = ("--as", key, "--statement", "said.jsonl")
    asked = ("attack", *served, "--data", "data.npz", "--norm", "linf", "--eps", "0.001")
    status, out, err = here.run(*asked, *said, "--format", "json")
    assert (status, json.loads(out)["verdict"]) == (0, "pass"), err
    # Another contract makes another artifact, of which nothing was said.
    other = place.root / "other.json"
    other.write_text(json.dumps(CONTRACT | {"name": "other"}, indent=1))
    statement = open_payload(Envelope.parse((place.root / "said.jsonl").read_bytes().strip()))
    beside = [
        stage(forest, place.root / "s", contract=place.root / name).digest
        for name in ("c.json", "other.json")
    ]
    assert [statement.subject.digest == one for one in beside] == [True, False]
    place.start("up", *served, "--statements", "said.jsonl")


# What is no model file


def test_an_exported_program_is_refused_by_name(here: Here, need_module: Need, net: Path) -> None:
    torch = need_module("torch")
    program = torch.export.export(torch.nn.Linear(WIDTH, 2), (torch.zeros(1, WIDTH),))
    torch.export.save(program, here.place.root / "net.pt2")
    status, out, err = here.run("attack", "net.pt2", "--data", "data.npz")
    assert refused((status, out, err)) == (3, "runtime.missing")
    assert "is an exported program" in err
    assert "as a Python object" in err


@pytest.mark.parametrize("form", ["http://127.0.0.1:1", "ftp://u:{}@h/x"])
def test_an_address_is_https_or_none(here: Here, net: Path, form: str) -> None:
    address = form.format("geheim")
    for command in (
        (address, "--data", "data.npz"),
        ("extract", address, "--data", "data.npz"),
        ("membership", address, "--members", "in.npz", "--nonmembers", "out.npz"),
        ("availability", address, "--data", "data.npz"),
    ):
        status, out, err = here.run("attack", *command)
        assert refused((status, out, err)) == (2, "target.bad_url"), command
        assert "https://HOST" in err
        assert "geheim" not in err
    audit = ("membership", "https://h", "--members", "in.npz", "--nonmembers", "out.npz")
    status, out, err = here.run("attack", *audit)
    assert (status, out, "an address is not asked" in err) == (2, "", True)
