"""Real objects of real frameworks are clean, and what fires when it is loaded is flagged."""

from __future__ import annotations

import collections
import datetime
import decimal
import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.core.finding import Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.rules import verdict
from keepstone.scan.scanner import judge, scan_file
from keepstone.scan.view import View
from tools.specimens import SPECIMENS, specimens

pytestmark = pytest.mark.filterwarnings("ignore")


def problems(data: bytes) -> list[str]:
    view = View("file", memoryview(data), Allowance(), judge)
    return [f"{item.rule}: {item.message}" for item in judge(view)]


def pickled(thing: Any) -> Iterator[bytes]:
    for protocol in range(6):
        try:
            yield pickle.dumps(thing, protocol)
        except (TypeError, AttributeError, pickle.PicklingError, ValueError):
            # Some objects need a protocol, and some cannot be pickled at all.
            continue


def framework(name: str) -> None:
    """Skip where a framework is not installed; in CI what it is there to check must run."""
    try:
        __import__(name)
    except ImportError:
        reason = f"{name} is not installed"
        required = name in ("sklearn", "scipy", "torch") and os.environ.get("CI")
        pytest.fail(reason) if required else pytest.skip(reason)


FRAMEWORKS = [name for name in SPECIMENS if name not in ("torch", "python", "sklearn")]


@pytest.mark.parametrize(
    "name",
    [*FRAMEWORKS, pytest.param("sklearn", marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_the_objects_of_a_framework_are_clean(name: str) -> None:
    framework(name)
    seen = 0
    for thing in specimens(name):
        for data in pickled(thing):
            seen += 1
            assert problems(data) == [], type(thing)
    assert seen > 20


def test_typical_estimators_are_clean() -> None:
    framework("sklearn")
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    x, y = np.random.default_rng(0).random((30, 3)), np.arange(30) % 2
    for model in (
        LogisticRegression(),
        RandomForestClassifier(3, random_state=np.random.RandomState(1)),
        GradientBoostingClassifier(n_estimators=3),
        make_pipeline(StandardScaler(), FunctionTransformer(np.tanh), LogisticRegression()),
        make_column_transformer((StandardScaler(), [0]), remainder="passthrough"),
        GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2),
    ):
        for data in pickled(model.fit(x, y)):
            assert problems(data) == [], model


def test_the_objects_of_the_standard_library_are_clean() -> None:
    for thing in specimens("python"):
        for data in pickled(thing):
            assert problems(data) == [], thing


def test_the_objects_of_torch_are_clean() -> None:
    framework("torch")
    import torch

    seen = 0
    for thing in specimens("torch"):
        if "Lazy" in type(thing).__name__:
            continue  # They bind methods as hooks, and are flagged for it.
        for zipped in (True, False):
            out = io.BytesIO()
            try:
                torch.save(thing, out, _use_new_zipfile_serialization=zipped)
            except Exception:
                continue
            seen += 1
            assert problems(out.getvalue()) == [], type(thing)
    assert seen > 200


def test_programs_of_torch_are_clean() -> None:
    framework("torch")
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.inner(x))

    example = (torch.ones(4, 3),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted, program = io.BytesIO(), io.BytesIO()
        torch.jit.save(torch.jit.trace(Net(), example), scripted)
        torch.export.save(torch.export.export(Net(), example), program)
    assert problems(scripted.getvalue()) == []
    assert problems(program.getvalue()) == []


def test_a_large_checkpoint_is_clean_without_being_held(tmp_path: Path) -> None:
    framework("torch")
    import torch

    path = tmp_path / "model.pt"
    torch.save({"weights": torch.zeros(20 << 20)}, path)
    report = scan_file(path)
    assert (report.outcome, report.format) == (Outcome.CLEAN, "torch")
    import hashlib

    assert report.sha256 is not None
    assert report.sha256.hex == hashlib.sha256(path.read_bytes()).hexdigest()


# Against the truth ----------------------------------------------------------------------------


class Call:
    def __init__(self, callee: object, *args: object) -> None:
        self.pair = callee, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.pair


_LOAD = """
import collections, datetime, decimal, pickle, sys, warnings
warnings.simplefilter("ignore")
import numpy, numpy.random._pickle
fired = []
def watch(event, args):
    if event in ("os.system", "subprocess.Popen", "exec", "os.remove", "os.mkdir"):
        if event != "exec" or args[0].co_filename == "<string>":
            fired.append(event)
with open(sys.argv[1], "rb") as file:
    data = file.read()
sys.addaudithook(watch)
try:
    pickle.loads(data)
except BaseException:
    pass
print(len(fired))
"""

FIRING = [
    Call(os.system, "true"),
    Call(eval, "1 + 1"),
    Call(exec, "x = 1"),
    Call(subprocess.call, ["true"]),
    [1, {"a": Call(os.system, "true")}],
    collections.OrderedDict(a=[Call(eval, "2")]),
    np.array([Call(os.system, "true")], object),
    (datetime.date(2024, 1, 1), Call(os.mkdir, "/proc/none")),
]
HARMLESS = [
    [1, 2.5, "text"],
    np.arange(5),
    {decimal.Decimal("1.5"): datetime.datetime(2024, 1, 1)},
    collections.Counter("abc"),
    np.random.RandomState(0),
]


def fires(path: Path) -> bool:
    command = [sys.executable, "-I", "-c", _LOAD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout) > 0


@pytest.mark.parametrize("index", range(len(FIRING) + len(HARMLESS)))
def test_the_verdict_is_the_truth(tmp_path: Path, index: int) -> None:
    thing = [*FIRING, *HARMLESS][index]
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(thing, index % 6))
    assert fires(path) is (index < len(FIRING)), "the sample must be what it is said to be"
    wanted = Outcome.FLAGGED if index < len(FIRING) else Outcome.CLEAN
    assert scan_file(path).outcome is wanted


def test_code_by_value_is_flagged() -> None:
    cloudpickle = pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    view = View("f", memoryview(cloudpickle.dumps(lambda x: x)), Allowance(), judge)
    assert verdict(judge(view)) is Outcome.FLAGGED
    assert problems(cloudpickle.dumps({"a": np.ones(3)})) == []


@pytest.mark.parametrize("protocol", [2, 4])
def test_data_by_dill_is_clean(protocol: int) -> None:
    dill = pytest.importorskip("dill", reason="dill is not installed")
    for thing in (
        np.arange(3),
        np.array([1, None], object),
        collections.defaultdict(list, a=[1]),
        {1, 2},
        [int, type(None), slice(1, 2), bytearray(b"a"), complex(1)],
    ):
        assert problems(dill.dumps(thing, protocol)) == [], thing
    assert problems(dill.dumps(lambda x: x, protocol)) != []
