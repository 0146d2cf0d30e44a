"""`keepstone harden`: what is written, what is refused, and what is said of masking."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keepstone.cli.main import run
from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.contract.validate import Array
from keepstone.lab.defences import dp_sgd
from keepstone.lab.defences.accounting import Epsilon
from keepstone.lab.defences.weights import weights_of
from keepstone.vault.load.safetensors import read_header
from tests.nets import save

Done = subprocess.CompletedProcess[str]

WIDTH = 12
CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Wide(Net):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 32), nn.Linear(32, 2)


class Placed(Net):
    def __init__(self):
        super().__init__()
        self.place = nn.Module()
        self.place.register_buffer("table", torch.arange(12.0).sin() / 100)

    def forward(self, x):
        return super().forward(x + self.place.table)


class Mixed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
"""
CONTRACT = ModelContract(
    (TensorSpec("x", DType.FP32, (-1, WIDTH), low=0.0, high=1.0),),
    (TensorSpec("scores", DType.FP32, (-1, 2)),),
)
MODEL = ("net.safetensors", "--architecture", "nets:Net")
TRAINED = ("--data", "train.npz", "--held-out", "held.npz", "--out", "out.safetensors")
QUICK = ("--epochs", "40", "--batch", "32", "--samples", "120")


def draw(count: int, seed: int) -> tuple[Array, Array]:
    """One feature that is strong and right nine times of ten; eleven weak ones that are right
    together, and gone within a tenth."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    x = 0.5 + 0.03 * (2 * y - 1)[:, None] + rng.normal(0, 0.03, (count, WIDTH))
    strong = np.where(rng.random(count) < 0.1, 1 - y, y)
    x[:, 0] = np.where(strong == 1, 0.8, 0.2) + rng.uniform(-0.1, 0.1, count)
    return x.clip(0, 1).astype(np.float32), y


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained as anybody would, its code and its data."""
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    folder = tmp_path_factory.mktemp("made")
    (folder / "nets.py").write_text(CODE)
    found: dict[str, Any] = {}
    exec(CODE, found)  # as the command imports it
    x, y = draw(400, 0)
    np.savez(folder / "train.npz", x=x, y=y)
    held, right = draw(500, 1)
    np.savez(folder / "held.npz", x=held, y=right)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for name, kind in (
        *(("net", "Net"), ("other", "Net"), ("wide", "Wide")),
        *(("mixed", "Mixed"), ("placed", "Placed")),
    ):
        torch.manual_seed(len(name))
        module = found[kind]()
        learner = torch.optim.Adam(module.parameters(), 0.01)
        for _ in range(300):
            loss = functional.cross_entropy(module(rows), labels)
            learner.zero_grad()
            loss.backward()
            learner.step()
        (folder / f"{name}.safetensors").write_bytes(weights_of(module, CONTRACT))
    return folder


class Here:
    """A folder, and the commands run in it by this process: torch is imported once."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def run(self, *arguments: object) -> Done:
        asked = list(map(str, arguments))
        self._capsys.readouterr()
        status = run(asked)
        told = self._capsys.readouterr()
        return Done(asked, status, told.out, told.err)

    def json(self, *arguments: object) -> Any:
        done = self.run(*arguments, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # Of another test's folder.
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    return Here(tmp_path, capsys)


@pytest.fixture
def nets(here: Here, made: Path) -> Path:
    shutil.copytree(made, here.root, dirs_exist_ok=True)
    return here.root


def harden(here: Any, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = here.run("harden", *arguments, "--format", "json")
    assert done.returncode in (0, 1, 3), done.stderr
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


# Training


def test_weights_that_gained_are_written_and_opened_by_attack(here: Here, nets: Path) -> None:
    status, found = harden(here, "train", *MODEL, *TRAINED, *QUICK, "--eps", "0.1")
    assert (status, found["schema"], found["verdict"]) == (0, "keepstone.defence/v1", "pass")
    (at,) = found["robust_accuracy"]
    assert (at["norm"], at["eps"], at["n"]) == ("linf", 0.1, 120)
    assert at["undefended"]["value"] < 0.1
    assert at["low"] > 0.7
    assert found["parameters"]["eps"] == 0.1
    out = nets / "out.safetensors"
    (weights,) = found["weights"]
    assert weights["file"] == "out.safetensors"
    done = here.json(
        *("attack", out, "--architecture", "nets:Net", "--data", "held.npz"),
        *("--norm", "linf", "--eps", "0.1", "--samples", "120"),
    )
    assert done["digest"] == weights["digest"]
    assert done["robust_accuracy"][0]["value"] == at["value"]


@pytest.mark.slow
def test_it_is_a_command_of_its_own(place: Any, made: Path) -> None:
    shutil.copytree(made, place.root, dirs_exist_ok=True)
    asked = ("harden", "inputs", *MODEL, "--data", "held.npz", "--by", "noise")
    done = place.run(*asked, "--samples", "120", "--norm", "linf", "--eps", "0.03")
    assert done.returncode == 3
    assert "invalid: gaussian-noise masks, and does no more" in done.stdout
    assert "defence.masks" in done.stderr
    listed = place.must("harden", "--help").stdout
    assert all(name in listed for name in ("train", "private", "smooth", "ensemble"))


def test_what_gained_nothing_is_not_written_unless_it_is_kept(here: Here, nets: Path) -> None:
    # Trained within next to nothing, and attacked within much.
    asked = ("train", *MODEL, *TRAINED, "--epochs", "1", "--samples", "120")
    near = ("--train-eps", "0.001", "--eps", "0.1")
    status, found = harden(here, *asked, *near)
    assert (status, found["verdict"], found["weights"]) == (1, "fail", [])
    assert [one["code"] for one in found["problems"]] == ["defence.no_gain"]
    assert not (nets / "out.safetensors").exists()
    done = here.run("harden", *asked, *near, "--keep")
    assert done.returncode == 1
    assert "fail: pgd-training" in done.stdout
    assert (nets / "out.safetensors").exists()


def test_members_of_seeds_of_their_own_are_written_beside_each_other(
    here: Here, nets: Path
) -> None:
    asked = ("train", *MODEL, *TRAINED, *QUICK, "--eps", "0.1", "--members", "2", "--by", "fast")
    (nets / "out-2.safetensors").write_bytes(b"mine")
    assert here.run("harden", *asked).returncode == 2
    status, found = harden(here, *asked, "--force")
    assert (status, found["verdict"]) == (0, "pass")
    assert [one["file"] for one in found["weights"]] == ["out-1.safetensors", "out-2.safetensors"]
    assert len({one["digest"] for one in found["weights"]}) == 2
    assert not (nets / "out.safetensors").exists()
    members = ("out-1.safetensors", "out-2.safetensors", *MODEL[1:])
    told = ("--data", "held.npz", "--norm", "linf", "--eps", "0.1", "--samples", "120")
    vote = harden(here, "ensemble", *members, *told)[1]
    assert vote["robust_accuracy"][0]["value"] == found["robust_accuracy"][0]["value"]


def test_nothing_is_written_over_without_being_told(
    here: Here, nets: Path, error_code: Any
) -> None:
    out = nets / "out.safetensors"
    out.write_bytes(b"mine")
    for command in ("train", "private"):
        done = here.run("harden", command, *MODEL, *TRAINED)
        assert (done.returncode, error_code(done)) == (2, "file.exists")
    assert out.read_bytes() == b"mine"
    away = ("--data", "train.npz", "--held-out", "held.npz", "-o", "no/such/out.safetensors")
    done = here.run("harden", "train", *MODEL, *away)
    assert (done.returncode, error_code(done)) == (2, "file.missing")
    asked = ("train", *MODEL, *TRAINED, *QUICK, "--eps", "0.1", "--force")
    assert harden(here, *asked)[0] == 0
    assert out.read_bytes() != b"mine"


def test_held_out_rows_that_were_trained_on_are_refused(
    here: Here, nets: Path, error_code: Any
) -> None:
    x, y = draw(100, 1)
    rows, labels = draw(400, 0)
    # The same number for the model, which takes 32 bits; another label makes it no other row.
    leaked = np.concatenate([x, rows[:1].astype(np.float64) + 1e-12])
    np.savez(nets / "leaked.npz", x=leaked, y=np.append(y, 1 - labels[0]))
    given = ("--data", "train.npz", "--held-out", "leaked.npz", "-o", "out.safetensors")
    for command in ("train", "private"):
        done = here.run("harden", command, *MODEL, *given)
        assert (done.returncode, error_code(done)) == (2, "defence.trained_on")
        assert "1 of 101 held-out rows" in done.stderr


def test_what_cannot_be_trained_has_a_code(here: Here, nets: Path, error_code: Any) -> None:
    def refused(*arguments: object, status: int = 2) -> str:
        done = here.run("harden", "train", *arguments)
        assert done.returncode == status, done.stderr
        assert not (nets / "out.safetensors").exists()
        return str(error_code(done))

    assert refused(*MODEL[:1], *TRAINED) == "model.architecture_needed"
    wrong = ("net.safetensors", "--architecture")
    assert refused(*wrong, "nets:Wide", *TRAINED, status=1) == "model.wrong_weights"
    assert refused(*wrong, "nets:Gone", *TRAINED) == "model.architecture_broken"
    rng = np.random.default_rng(0)
    np.savez(nets / "six.npz", x=rng.uniform(0, 1, (50, 6)), y=rng.integers(0, 4, 50))
    np.savez(nets / "six2.npz", x=rng.uniform(0, 1, (50, 6)), y=rng.integers(0, 4, 50))
    onnx = save(nets / "net.onnx", 1)
    given = ("--data", "six.npz", "--held-out", "six2.npz", "-o", "out.safetensors")
    assert refused(onnx, *given) == "defence.untrainable"
    x, y = draw(100, 3)
    x[3, 3] = np.nan
    np.savez(nets / "nan.npz", x=x, y=y)
    odd = ("--data", "nan.npz", "--held-out", "held.npz", "-o", "out.safetensors")
    assert refused(*MODEL, *odd) == "data.not_finite"
    np.savez(nets / "far.npz", x=np.full((100, WIDTH), 7.0), y=y)
    far = ("--data", "train.npz", "--held-out", "far.npz", "-o", "out.safetensors")
    assert refused(*MODEL, *far) == "attack.other_inputs"
    np.savez(nets / "others.npz", x=draw(100, 4)[0], y=y + 5)
    others = ("--data", "train.npz", "--held-out", "others.npz", "-o", "out.safetensors")
    assert refused(*MODEL, *others) == "target.bad_labels"
    assert refused(*MODEL, *TRAINED, "--eps", "-1") == "attack.bad_eps"
    assert refused(*MODEL, *TRAINED, "--epochs", "0") == "defence.bad_parameters"
    assert refused(*MODEL, *TRAINED, "--rate", "1e38", status=3) == "defence.diverged"


def test_options_of_another_lesson_are_usage_errors(here: Here, nets: Path) -> None:
    for odd in (
        ("train", *MODEL, *TRAINED, "--by", "fast", "--steps", "3"),
        ("train", *MODEL, *TRAINED, "--beta", "3"),
        ("train", *MODEL, *TRAINED, "--norm", "l2", "--eps", "1"),
        ("inputs", *MODEL, "--data", "held.npz", "--by", "noise", "--bits", "3"),
        ("outputs", *MODEL, "--data", "held.npz", "--by", "labels-only", "--digits", "3"),
        ("outputs", *MODEL, "--data", "held.npz", "--by", "labels-only", "--members", "x.npz"),
        ("ensemble", "net.safetensors", "--data", "held.npz"),
    ):
        done = here.run("harden", *odd)
        assert done.returncode == 2, odd
        assert "Usage:" in done.stderr


# Privacy


@pytest.fixture
def accountants(need_module: Callable[[str], ModuleType]) -> None:
    need_module("opacus")
    need_module("dp_accounting")


PRIVATE = ("--noise", "1", "--rate", "0.2", "--steps", "40", "--speed", "0.05")


@pytest.mark.usefixtures("accountants")
def test_an_epsilon_is_told_beside_what_attacks_find(here: Here, nets: Path) -> None:
    status, found = harden(here, "private", *MODEL, *TRAINED, *PRIVATE, "--shadows", "2")
    assert (status, found["schema"], found["verdict"]) == (0, "keepstone.privacy/v1", "pass")
    assert set(found["privacy"]["by"]) == {"prv", "pld"}
    assert found["privacy"]["epsilon"] > found["epsilon_at_least"]
    assert [one["attack"] for one in found["membership"]] == ["loss-threshold", "rmia"]
    assert all(one["undefended"]["nonmembers"] == 500 for one in found["membership"])
    assert found["clean_accuracy"]["value"] > 0.8
    done = here.json(
        *("attack", "out.safetensors", "--architecture", "nets:Net", "--data", "held.npz"),
        *("--norm", "linf", "--eps", "0.0001", "--samples", "120"),
    )
    (weights,) = found["weights"]
    assert done["digest"] == weights["digest"]
    # The noise is drawn anew whatever the seed is.
    again = harden(here, "private", *MODEL, *TRAINED, *PRIVATE, "--force")[1]
    assert again["weights"][0]["digest"] != weights["digest"]


@pytest.mark.slow
def test_an_epsilon_that_the_attack_contradicts_writes_nothing(
    here: Here, nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An account of another training than the one that is run, which learns labels by heart.
    def account(noise: float, rate: float, steps: int, delta: float) -> Epsilon:
        return Epsilon(0.01, delta, "pld", (("prv", 0.01), ("pld", 0.01)), noise, rate, steps)

    monkeypatch.setattr(dp_sgd, "account", account)
    rng = np.random.default_rng(0)
    for name, count in (("train", 200), ("held", 500)):
        x, y = rng.uniform(0, 1, (count, WIDTH)), rng.integers(0, 2, count)
        np.savez(nets / f"{name}.npz", x=x, y=y)
    wide = ("wide.safetensors", "--architecture", "nets:Wide", *TRAINED)
    told = ("--noise", "1e-3", "--clip", "5", "--rate", "0.5", "--steps", "300", "--speed", "0.05")
    status, found = harden(here, "private", *wide, *told)
    assert (status, found["verdict"], found["weights"]) == (3, "invalid", [])
    assert [one["code"] for one in found["problems"]] == ["defence.epsilon_contradicted"]
    assert found["epsilon_at_least"] > found["privacy"]["epsilon"] == 0.01
    assert not (nets / "out.safetensors").exists()


@pytest.mark.usefixtures("accountants")
def test_weights_that_may_know_the_rows_are_no_beginning(here: Here, nets: Path) -> None:
    still = ("--steps", "1", "--speed", "1e-9", "--keep")
    assert harden(here, "private", *MODEL, *TRAINED, *still)[1]["weights"]

    def weights(name: str) -> Array:
        data = memoryview((nets / name).read_bytes())
        places = {one.name: one for one in read_header(data).tensors}
        found: Array = np.frombuffer(data[places["b.weight"].begin : places["b.weight"].end], "<f4")
        return found

    apart = np.abs(weights("net.safetensors") - weights("out.safetensors"))
    assert np.median(apart) > 0.05


@pytest.mark.usefixtures("accountants")
def test_a_table_is_stated_to_be_made_without_the_rows(
    here: Here, nets: Path, error_code: Any
) -> None:
    placed = ("placed.safetensors", "--architecture", "nets:Placed", *TRAINED, *PRIVATE)
    done = here.run("harden", "private", *placed)
    assert (done.returncode, error_code(done)) == (2, "defence.unfit")
    assert "'place.table' is the same" in done.stderr
    assert not (nets / "out.safetensors").exists()
    stated = (*placed, "--fixed", "place")
    status, found = harden(here, "private", *stated, "--shadows", "2")
    assert (status, found["verdict"]) == (0, "pass")
    (fixed,) = found["fixed"]
    assert fixed["name"] == "place"
    assert fixed["digest"].startswith("sha256:")
    done = here.run("harden", "private", *stated, "--force")
    assert "place: you state that it was made without the rows" in done.stderr
    done = here.run("harden", "private", *stated, "--force", "--fixed", "a")
    assert (done.returncode, error_code(done)) == (2, "defence.bad_parameters")
    assert harden(here, "private", *MODEL, *TRAINED, *PRIVATE, "--force")[1]["fixed"] == []


@pytest.mark.usefixtures("accountants")
def test_too_few_rows_to_attack_with_write_nothing(here: Here, nets: Path) -> None:
    x, y = draw(120, 9)
    np.savez(nets / "held.npz", x=x, y=y)
    status, found = harden(here, "private", *MODEL, *TRAINED, *PRIVATE)
    assert (status, found["verdict"], found["weights"]) == (3, "insufficient", [])
    assert [one["code"] for one in found["problems"]] == ["defence.too_few"]
    assert not (nets / "out.safetensors").exists()


@pytest.mark.usefixtures("accountants")
def test_what_cannot_be_private_is_refused(here: Here, nets: Path, error_code: Any) -> None:
    for odd, status, code in (
        (("--delta", "0.1"), 2, "defence.bad_delta"),
        (("--noise", "0"), 2, "defence.bad_parameters"),
        (("--clip", "0"), 2, "defence.bad_parameters"),
        (("--shadows", "3"), 2, "attack.bad_shadows"),
    ):
        done = here.run("harden", "private", *MODEL, *TRAINED, *PRIVATE, *odd)
        assert (done.returncode, error_code(done)) == (status, code)
    mixed = ("mixed.safetensors", "--architecture", "nets:Mixed")
    done = here.run("harden", "private", *mixed, *TRAINED, *PRIVATE)
    assert (done.returncode, error_code(done)) == (2, "defence.unfit")


# Certificates


def test_certificates_are_told_beside_what_an_attack_leaves(here: Here, nets: Path) -> None:
    asked = ("smooth", *MODEL, "--data", "held.npz", "--sigma", "0.1", "--draws", "300")
    status, found = harden(here, *asked, "--samples", "120", "--radius", "0.05", "--radius", "0.1")
    assert (status, found["schema"], found["verdict"]) == (0, "keepstone.certificate/v1", "pass")
    certified, attacked = found["certified_accuracy"], found["reattacked"]["accuracy"]
    assert [one["size"] for one in certified] == [0.05, 0.1] == [one["size"] for one in attacked]
    pairs = zip(certified, attacked, strict=True)
    assert all(low["value"] <= high["value"] for low, high in pairs)
    assert found["reattacked"]["broken"] == 0
    assert found["parameters"]["sigma"] == 0.1


def test_a_model_that_tells_the_attacker_apart_breaks_its_certificates(
    here: Here, nets: Path
) -> None:
    # It is another function once it has been asked for more than what certifies 120 samples.
    (nets / "nets.py").write_text(
        CODE
        + """

class Weary(Net):
    asked = 0

    def forward(self, x):
        Weary.asked += len(x)
        found = super().forward(x)
        return found if Weary.asked < 120 * 400 else found.flip(1)
"""
    )
    asked = ("smooth", "net.safetensors", "--architecture", "nets:Weary", "--data", "held.npz")
    noise = ("--sigma", "0.1", "--draws", "300", "--samples", "120", "--radius", "0")
    status, found = harden(here, *asked, *noise)
    assert (status, found["verdict"]) == (3, "invalid")
    assert [one["code"] for one in found["problems"]] == ["defence.certificate_broken"]


# Around a model


def test_a_transform_that_masks_is_called_so(here: Here, nets: Path) -> None:
    asked = ("inputs", *MODEL, "--data", "held.npz", "--by", "noise", "--samples", "120")
    status, found = harden(here, *asked, "--norm", "linf", "--eps", "0.03", "--sigma", "0.2")
    assert (status, found["verdict"], found["parameters"]) == (3, "invalid", {"sigma": 0.2})
    assert [one["code"] for one in found["problems"]] == ["defence.masks"]


def test_a_median_wants_pictures(here: Here, nets: Path, error_code: Any) -> None:
    done = here.run("harden", "inputs", *MODEL, "--data", "held.npz", "--by", "median")
    assert (done.returncode, error_code(done)) == (2, "defence.unfit")


@pytest.mark.slow
def test_rounding_is_said_to_change_nothing(here: Here, nets: Path) -> None:
    asked = ("outputs", *MODEL, "--data", "held.npz", "--by", "rounded-scores", "--digits", "6")
    few = ("--samples", "120", "--norm", "linf", "--eps", "0.03", "--queries", "40")
    members = ("--members", "train.npz", "--nonmembers", "held.npz")
    status, found = harden(here, *asked, *few, *members)
    assert (status, found["verdict"]) == (1, "fail")
    assert [one["code"] for one in found["problems"]] == ["defence.no_gain"]
    assert "changes nothing" in found["problems"][0]["message"]
    assert found["evasion"]["verdict"] == "fail"
    assert found["extraction"]["budget"] == 40
    assert len(found["extraction"]["defended"]) == 5
    assert not found["membership"]["gains"]


def test_labels_that_are_not_the_models_void_what_copies_say(here: Here, nets: Path) -> None:
    x, y = draw(240, 5)
    np.savez(nets / "wrong.npz", x=x, y=1 - y)
    asked = ("outputs", *MODEL, "--data", "wrong.npz", "--by", "labels-only", "--queries", "14")
    status, found = harden(here, *asked, "--norm", "linf", "--eps", "0.03", "--samples", "100")
    assert (status, found["verdict"]) == (3, "invalid")
    assert [one["code"] for one in found["problems"]] == ["attack.labels_mismatch"]


def test_a_vote_is_compared_with_its_best_member(here: Here, nets: Path, error_code: Any) -> None:
    files = ("net.safetensors", "other.safetensors", "wide.safetensors")
    code = [f"--architecture=nets:{name}" for name in ("Net", "Net", "Wide")]
    asked = ("--data", "held.npz", "--norm", "linf", "--eps", "0.04", "--samples", "120")
    status, found = harden(here, "ensemble", *files, *code, *asked)
    assert (status, found["defence"]) == (1, "soft-vote")
    assert [one["model"] for one in found["members"]] == ["net", "other", "wide"]
    best = found["members"][found["best_member"]]["robust_accuracy"][0]
    assert best["value"] == found["robust_accuracy"][0]["undefended"]["value"]
    assert len(found["replayed"]) == 1
    done = here.run("harden", "ensemble", *files, *code[:2], *asked)
    assert done.returncode == 2
    assert "no --architecture left for wide.safetensors" in done.stderr
    onnx = save(nets / "net.onnx", 1)
    done = here.run("harden", "ensemble", "net.safetensors", onnx, *code[:1], *asked)
    assert (done.returncode, error_code(done)) == (2, "attack.other_inputs")


def test_onnx_files_are_an_ensemble_that_is_attacked_through_its_gradient(here: Here) -> None:
    import onnxruntime

    files = [save(here.root / f"net{seed}.onnx", seed) for seed in (1, 2)]
    session = onnxruntime.InferenceSession(files[0].read_bytes())
    x = np.random.default_rng(0).uniform(0, 1, (120, 6)).astype(np.float32)
    np.savez(here.root / "data.npz", x=x, y=session.run(["label"], {"x": x})[0])
    asked = ("--data", "data.npz", "--norm", "linf", "--eps", "0.1", "--by", "majority")
    status, found = harden(here, "ensemble", *files, *asked, "--budget", "50")
    # They are of other classes, so that the vote is right by half; nothing of it is a pass.
    assert status in (1, 3)
    assert found["defence"] == "majority"
    assert "white-box" in {one["name"] for one in found["attacks"]["adaptive"]}
