"""Trainings in processes of their own: what one leaves behind is nothing to another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.lab.fresh import Fresh
from tests import trainers

X, Y = trainers.blobs(60, 0)


@pytest.fixture
def fresh() -> Iterator[Callable[..., Fresh]]:
    made: list[Fresh] = []

    def make(name: str, **given: float) -> Fresh:
        made.append(Fresh(f"tests.trainers:{name}", **given))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a training writes which processes there are, itself first."""
    path = tmp_path / "pids"
    monkeypatch.setenv("KEEPSTONE_TEST_PIDS", str(path))
    return path


def require_ended(pids: Path) -> None:
    """Raises unless each process that is written down there ends soon."""
    waited = time.monotonic() + 10
    for pid in map(int, written(pids)):
        while running(pid):
            assert time.monotonic() < waited
            time.sleep(0.01)


def written(pids: Path) -> list[str]:
    waited = time.monotonic() + 10
    while not (pids.exists() and len(pids.read_text().split()) == 2):
        assert time.monotonic() < waited
        time.sleep(0.01)
    return pids.read_text().split()


def running(pid: int) -> bool:
    """A zombie that nobody asks for runs no more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def test_a_training_sees_its_rows_and_its_seed_alone(fresh: Callable[..., Fresh]) -> None:
    collecting, means = fresh("collecting"), trainers.Means(X[:30], Y[:30])
    collecting(X[30:], Y[30:] * 0 + 1, 0)
    assert (collecting(X[:30], Y[:30], 0).decision_function(X) == means.decision_function(X)).all()
    # Nor does the caller see what it did to them.
    before = X.copy()
    fresh("means")(X, Y, 0)
    assert (before == X).all()
    assert "KEEPSTONE_TEST_TURNED" not in os.environ
    setting = fresh("setting")
    for _ in range(2):
        assert (setting(X, Y, 0).predict(X) == trainers.Means(X, Y).predict(X)).all()
    assert "KEEPSTONE_TEST_TURNED" not in os.environ


def test_what_is_drawn_hangs_on_the_seed_alone(fresh: Callable[..., Fresh]) -> None:
    one, other = fresh("drawing"), fresh("drawing")
    drawn = [one(X, Y, 3).drawn, one(X, Y, 3).drawn, other(X, Y, 3).drawn, other(X, Y, 4).drawn]
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("raising", "raised RuntimeError: no luck"),
        ("leaving", "raised SystemExit: 0"),
        ("ending", "ended with the status 0"),
        ("killed", "killed by the signal 9"),
        ("no_such", "raised AttributeError"),
    ],
)
def test_a_training_that_gives_no_model_has_a_code(
    fresh: Callable[..., Fresh], train: str, said: str
) -> None:
    made = fresh(train)
    # The next one is no worse off.
    for _ in range(2):
        with pytest.raises(InputError, match=said) as caught:
            made(X, Y, 0)
        assert caught.value.code == "attack.train_failed"
        assert caught.value.next_step


@pytest.mark.parametrize(("train", "said"), [("holding", "lock"), ("unreadable", "not today")])
def test_a_model_that_cannot_be_handed_over_has_a_code(
    fresh: Callable[..., Fresh], train: str, said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        fresh(train)(X, Y, 0)
    assert caught.value.code == "attack.unpicklable"
    assert "can be pickled" in caught.value.next_step


def test_an_error_of_ours_arrives_as_it_was_raised(fresh: Callable[..., Fresh]) -> None:
    with pytest.raises(OperationalError) as caught:
        fresh("refusing")(X, Y, 0)
    found: KeepstoneError = caught.value
    assert (found.code, found.cause) == ("training.failed", "The clock stands.")
    assert found.next_step == "Wind it up."


def test_a_training_that_hangs_is_ended_with_all_that_it_began(
    fresh: Callable[..., Fresh], pids: Path
) -> None:
    with pytest.raises(InputError, match="longer than 2 s") as caught:
        fresh("hanging", patience_s=2)(X, Y, 0)
    assert caught.value.code == "attack.train_failed"
    assert "--patience" in caught.value.next_step
    require_ended(pids)


def test_what_a_training_leaves_running_ends_with_it(
    fresh: Callable[..., Fresh], pids: Path
) -> None:
    made = fresh("leaving_one_behind")
    assert isinstance(made(X, Y, 0), trainers.Means)
    require_ended(pids)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_is_interrupted_leaves_nothing_running(pids: Path, how: signal.Signals) -> None:
    code = (
        # Whoever runs the tests in the background has it ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from keepstone.lab.fresh import Fresh; from tests import trainers;"
        "Fresh('tests.trainers:hanging')(*trainers.blobs(60, 0), 0)"
    )
    path = os.pathsep.join(one for one in sys.path if one)
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        written(pids)
        process.send_signal(how)
        assert process.wait(20) != 0
    require_ended(pids)


def test_a_server_that_dies_takes_its_training_with_it(
    fresh: Callable[..., Fresh], pids: Path
) -> None:
    made = fresh("hanging")
    with ThreadPoolExecutor() as pool:
        training = pool.submit(made, X, Y, 0)
        pid, program = map(int, written(pids))
        made._server._process.kill()
        with pytest.raises(InputError, match="gave no model"):
            training.result(20)
    # Nobody is left who would end what that one began.
    os.kill(program, signal.SIGKILL)
    while running(pid):
        time.sleep(0.01)


def test_a_server_that_died_is_replaced(fresh: Callable[..., Fresh]) -> None:
    made = fresh("means")
    made(X, Y, 0)
    made._server._process.kill()
    made._server._process.wait()
    with pytest.raises(InputError, match="forked from ended"):
        made(X, Y, 0)
    assert isinstance(made(X, Y, 0), trainers.Means)


def test_what_a_training_prints_is_no_result(
    fresh: Callable[..., Fresh], capfd: pytest.CaptureFixture[str]
) -> None:
    fresh("talking")(X, Y, 0)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("said ") == 5
