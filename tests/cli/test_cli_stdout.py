"""With `--format json` the result is alone on stdout, whatever else prints, and however."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from keepstone.cli.main import run
from keepstone.cli.options import format_option
from keepstone.cli.output import emit, emit_json
from tests import trainers

TALKING = """
import atexit, ctypes, os, subprocess, sys
import numpy as np

LIBC = ctypes.CDLL(None)

def talk(when):
    print(f"said {when} by print")
    os.write(1, f"said {when} to the descriptor\\n".encode())
    subprocess.run(["echo", f"said {when} by a program"], check=True)
    # A pipe's end: kept by the library until the process ends.
    LIBC.puts(f"said {when} by a library".encode())
    print(f"said {when} to what stdout was", file=sys.__stdout__, flush=True)

class Means:
    def __init__(self, x, y):
        self.classes_ = np.unique(y)
        self.means = np.stack([x[y == one].mean(axis=0) for one in self.classes_])

    def predict(self, x):
        talk("when asked")
        return self.classes_[((x[:, None] - self.means) ** 2).sum(axis=2).argmin(axis=1)]

def fit(x, y, seed):
    talk("in training")
    return Means(x, y)

talk("when imported")
atexit.register(talk, "at the end")
"""
MOMENTS = ("when imported", "in training", "when asked", "at the end")
WAYS = ("by print", "to the descriptor", "by a program", "by a library", "to what stdout was")


@pytest.fixture
def asked(place: Any) -> tuple[str, ...]:
    """A drill of a training that prints in every way."""
    (place.root / "talking.py").write_text(TALKING)
    place.environment["PYTHONPATH"] = f"{place.root}:{place.environment.get('PYTHONPATH', '')}"
    for name, (x, y) in {
        "train.npz": trainers.blobs(120, 0),
        "test.npz": trainers.blobs(60, 1),
    }.items():
        np.savez(place.root / name, x=x, y=y)
    rows = ("--data", "train.npz", "--held-out", "test.npz")
    return ("--train", "talking:fit", *rows, "--by", "feedback", "--seeds", "1")


def test_whatever_is_printed_is_no_part_of_a_result(place: Any, asked: tuple[str, ...]) -> None:
    done = place.run("attack", "poisoning", *asked, "--format", "json")
    assert json.loads(done.stdout)["schema"] == "keepstone.poisoning/v1", done.stderr
    for moment in MOMENTS:
        for way in WAYS:
            assert f"said {moment} {way}\n" in done.stderr, (moment, way)


def test_what_a_training_prints_is_in_no_table(place: Any, asked: tuple[str, ...]) -> None:
    done = place.run("attack", "poisoning", *asked)
    assert "feedback" in done.stdout
    for moment in ("when imported", "in training"):
        assert f"said {moment}" not in done.stdout
        assert f"said {moment} by print" in done.stderr


NET = """
import os
import torch
from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.lab.defences.weights import weights_of

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)

    def forward(self, x):
        print(f"said by print in {os.getpid()}")
        os.write(1, b"said to the descriptor\\n")
        return self.layer(x)

def save(path):
    torch.manual_seed(0)
    takes = TensorSpec("x", DType.FP32, (-1, 2), low=-5.0, high=5.0)
    contract = ModelContract((takes,), (TensorSpec("scores", DType.FP32, (-1, 3)),))
    path.write_bytes(weights_of(Net(), contract))
"""


@pytest.mark.slow
def test_a_model_prints_to_stderr_in_workers_too(place: Any, need_module: Any) -> None:
    need_module("torch")
    (place.root / "net.py").write_text(NET)
    place.environment["PYTHONPATH"] = f"{place.root}:{place.environment.get('PYTHONPATH', '')}"
    code = "import net, pathlib; net.save(pathlib.Path('net.safetensors'))"
    subprocess.run([sys.executable, "-c", code], cwd=place.root, env=place.environment, check=True)
    x, y = trainers.blobs(60, 0)
    np.savez(place.root / "data.npz", x=x.astype(np.float32), y=y)
    done = place.run(
        *("attack", "net.safetensors", "--architecture", "net:Net", "--data", "data.npz"),
        *("--samples", "20", "--budget", "100", "--workers", "2", "--format", "json"),
    )
    assert json.loads(done.stdout)["schema"] == "keepstone.attack/v1", done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("said by print")]
    # Here, and in a worker at least.
    assert len(set(said)) > 1


# Standard output as a shell may leave it


def shell(place: Any, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env=place.environment | {"KEEPSTONE": f"{sys.executable} -m keepstone.cli"},
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_streams_that_are_closed_or_broken_are_borne(place: Any) -> None:
    closed = shell(place, "$KEEPSTONE policy profile strict >&-")
    assert "Traceback" not in closed.stderr
    silent = shell(place, "$KEEPSTONE scan scale.onnx --format json 2>&-")
    assert json.loads(silent.stdout)["schema"]
    broken = shell(place, "$KEEPSTONE scan scale.onnx --format json | true")
    assert (broken.returncode, broken.stdout, broken.stderr) == (0, "", "")
    both = shell(place, "$KEEPSTONE scan scale.onnx --format json 2>&1")
    assert json.loads(both.stdout)["schema"]
    helped = shell(place, "$KEEPSTONE --help")
    assert (helped.stdout[:6], helped.stderr) == ("Usage:", "")


def test_what_it_starts_inherits_no_result(place: Any) -> None:
    """The copy of standard output is closed in every program that is started."""
    code = (
        "import os, sys\n"
        "from keepstone.cli.output import own_stdout\n"
        "own_stdout(); own_stdout()\n"
        "import subprocess\n"
        "subprocess.run(['sh', '-c', 'echo one; echo two >&3 || true'])\n"
        "print('result')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "result\n"
    assert "one\n" in done.stderr


# In a process that is another's


@click.command()
@format_option("json")
def command(style: str) -> None:
    """Prints on its way to a result."""
    print("said by print")
    if style == "json":
        emit_json({"schema": "keepstone.test/v1"})
    else:
        emit("result")
    print("said by print")


def test_a_result_is_alone_in_another_process_too() -> None:
    runner = CliRunner()
    found = runner.invoke(command, ["--format", "json"])
    assert json.loads(found.stdout) == {"schema": "keepstone.test/v1"}
    assert found.stderr == "said by print\n" * 2
    found = runner.invoke(command, [])
    assert found.stdout == "said by print\nresult\nsaid by print\n"
    assert found.stderr == ""


def test_stdout_is_as_it_was_afterwards(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    (tmp_path / "a.txt").write_text("nothing")
    run(["scan", str(tmp_path), "--format", "json"])
    run(["scan", str(tmp_path), "--format", "json", "--no-such"])
    assert sys.stdout is before
    os.write(1, b"to the descriptor\n")
    said = capfd.readouterr()
    assert said.out.endswith("to the descriptor\n")
    assert json.loads(said.out.removesuffix("to the descriptor\n"))["schema"]
