"""Suites in parts: the same as a whole, whoever does them, and nothing lost is taken for robust."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.lab.meter import reach
from keepstone.lab.problem import Verdict
from keepstone.lab.suites.masking import Masking
from keepstone.lab.suites.memory import Memory
from keepstone.lab.suites.observer import Nobody
from keepstone.lab.suites.processes import Processes
from keepstone.lab.suites.ray import RayCluster, Worker
from keepstone.lab.suites.result import SuiteResult
from keepstone.lab.suites.run import run_suite
from keepstone.lab.suites.shards import cut
from keepstone.lab.suites.spread import (
    Done,
    Lost,
    Ready,
    Seen,
    Served,
    Shard,
    Work,
    attack_shard,
    require_same,
)
from keepstone.lab.targets.port import Capability
from tests.lab import spreading
from tests.lab.fakes import Linear, Towards
from tests.lab.spreading import ABLE, ASKED, PART, Dies, Draws, Hangs, X, Y, parts, shown, suite

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Here:
    """Shards attacked in this process, in any order; some of them lost."""

    lost: tuple[int, ...] = ()
    backwards: bool = False
    asked: list[int] = field(default_factory=list)

    def run(self, work: Work, shards: Sequence[Shard]) -> Iterator[tuple[int, Done | Lost]]:
        for shard in reversed(shards) if self.backwards else shards:
            self.asked.append(shard.number)
            if shard.number in self.lost:
                yield shard.number, Lost("it was lost")
                continue
            with work.opens() as target:
                yield shard.number, self.answer(attack_shard(work, target, shard))

    def answer(self, done: Done) -> Done:
        return done


def run(spread: Any = None, opened: Any = spreading.opens, **given: Any) -> SuiteResult:
    shards = None if spread is None else parts(spread, opened)
    asked = given.pop("asked", ASKED)
    attacks = given.pop("suite", suite())
    return run_suite(shown(), X, given.pop("y", Y), attacks, asked, shards=shards, **given)


def facts(found: SuiteResult) -> dict[str, Any]:
    told = found.to_dict()
    del told["shards"]
    for one in told["attacks"]:
        del one["cpu_s"]
    worst = found.worst
    rows = (worst.rows, worst.distance, worst.attack, worst.label)
    return told | {"worst": [one.tolist() for one in rows]}


# Put together


def test_parts_make_the_whole() -> None:
    """What draws nothing finds the same in parts as on all samples at once, to the last query."""
    plain = suite(Towards((0.0, 1.0)), Towards((1.0, 0.0)))
    y = Y.copy()
    y[::7] = 1 - y[::7]
    assert facts(run(Here(), suite=plain, y=y)) == facts(run(suite=plain, y=y))


def test_the_order_in_which_they_end_is_nothing() -> None:
    assert facts(run(Here())) == facts(run(Here(backwards=True)))
    assert run(Here()).to_dict()["shards"] == PART


def test_each_part_draws_for_itself(tmp_path: Path) -> None:
    """By the run's seed and by its own place: the same rows elsewhere get other draws."""
    twice = np.concatenate([X[:PART], X[:PART]])
    y = np.concatenate([Y[:PART], Y[:PART]])
    found = run_suite(shown(), twice, y, suite(Draws()), ASKED, shards=parts(Here()))
    first, second = found.worst.rows[:PART], found.worst.rows[PART:]
    assert not np.array_equal(first, second)
    # What is kept of one is not taken for the other's.
    memory = Memory(tmp_path / "kept", Digest.of(b"this run"))
    for _ in range(2):
        shards = parts(Here())
        again = run_suite(shown(), twice, y, suite(Draws()), ASKED, memory=memory, shards=shards)
        assert np.array_equal(again.worst.rows, found.worst.rows)
    other = run(Here(), asked=replace(ASKED, seed=1))
    assert facts(other)["worst"] != facts(run(Here()))["worst"]


@given(st.integers(0, 500), st.integers(1, 70))
def test_samples_are_cut_into_parts_by_their_number_alone(count: int, size: int) -> None:
    places = cut(count, size)
    sizes = [len(one) for one in places]
    assert len(sizes) == -(-count // size)
    # None is left with one sample that others had room for.
    assert max(sizes, default=0) <= size
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert np.concatenate([np.zeros(0, int), *places]).tolist() == list(range(count))


# Lost


def test_a_lost_part_is_insufficient_and_still_counts() -> None:
    easy = replace(ASKED, at_least=0.01)
    whole, some = run(Here(), asked=easy), run(Here(lost=(1, 4)), asked=easy)
    assert whole.verdict is Verdict.PASS
    assert some.verdict is Verdict.INSUFFICIENT
    (problem,) = some.problems
    assert problem.code == "attack.shard_lost"
    assert "2 of 5 parts of the run, 88 samples" in problem.message
    # Never a smaller denominator.
    assert [one.robust.n for one in some.robust] == [220, 220]
    assert some.attacks[0].attacked == 132
    assert not some.sufficient


def test_what_was_broken_fails_whatever_else_was_lost() -> None:
    hard = replace(ASKED, epsilons=(0.4,), at_least=0.9)
    assert run(Here(lost=(1,)), asked=hard).verdict is Verdict.FAIL


def test_all_lost_is_no_robustness() -> None:
    found = run(Here(lost=(0, 1, 2, 3, 4)), asked=replace(ASKED, at_least=0.01))
    assert found.verdict is Verdict.INSUFFICIENT
    assert [one.attacked for one in found.attacks] == [0] * len(found.attacks)
    # No number looks good that nothing was done for.
    for one in found.to_dict()["robust_accuracy"]:
        assert (one["value"], one["low"], one["n"]) == (0, 0, 220)
        assert one["high"] > 0.9


def test_a_lost_part_counts_as_broken_where_it_would_look_robust() -> None:
    whole, some = run(Here()), run(Here(lost=(1, 4)))
    for before, after in zip(whole.robust, some.robust, strict=True):
        near = reach(before.eps)
        standing = whole.worst.clean & (whole.worst.distance > near) & some.worst.attacked
        assert after.robust.hits == standing.sum() < before.robust.hits
        assert after.robust.high > before.robust.high
    assert max(y for _, y in some.distortion()) < some.worst.attacked.mean()


def test_what_nobody_went_for_was_left_standing_by_nobody() -> None:
    """A sign of masking is what attacks by gradient left, and others broke."""
    left = []

    def look(target: Any, x: Any, y: Any, standing: Any, question: Any) -> Masking:
        left.append(standing)
        return Masking((), (), (), 0)

    class Gradient(Towards):
        needs = spreading.Capability.GRADIENT

        def run(self, meter: Any, rng: Any) -> None:
            places = meter.standing()
            meter.linearize(places, meter.x[places]).vjp(np.ones((len(places), 2)))

    target = spreading.halves()
    shards = parts(Here(lost=(0,)), spreading.opens_another)
    run_suite(target, X, Y, suite(Gradient()), ASKED, masking=look, shards=shards)
    assert not left[0][: len(X) // 5].any()
    assert left[0][len(X) // 5 :].all()


# Kept


def test_a_part_that_is_kept_is_not_done_again(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "kept", Digest.of(b"this run"))
    first, second, third = Here(lost=(1, 3)), Here(), Here()
    run(first, memory=memory)
    found = run(second, memory=memory)
    assert (first.asked, second.asked) == ([0, 1, 2, 3, 4], [1, 3])
    again = run(third, memory=memory)
    assert third.asked == []
    assert again.to_dict() == found.to_dict()
    assert facts(found) == facts(run(Here()))
    # Of a whole run nothing is taken for a part's.
    fresh = Memory(tmp_path / "whole", Digest.of(b"this run"))
    run(memory=fresh)
    fourth = Here()
    run(fourth, memory=fresh)
    assert fourth.asked == [0, 1, 2, 3, 4]


# Believed


class Fewer(Here):
    """Leaves out of an answer what would have to be attacked."""

    def answer(self, done: Done) -> Done:
        first = done.went[0]
        tally = first.tally
        cut = {name: getattr(tally, name)[1:] for name in tally.__dataclass_fields__}
        went = replace(first, places=first.places[1:], tally=replace(tally, **cut))
        return Done((went, *done.went[1:]))


class Shorter(Here):
    def answer(self, done: Done) -> Done:
        return Done(done.went[1:])


class Narrower(Here):
    def answer(self, done: Done) -> Done:
        tally = replace(done.went[0].tally, rows=done.went[0].tally.rows[:, :1])
        return Done((replace(done.went[0], tally=tally), *done.went[1:]))


@pytest.mark.parametrize("liar", [Fewer, Shorter, Narrower])
def test_an_answer_about_other_samples_ends_the_run(liar: type[Here]) -> None:
    with pytest.raises(InputError) as refused:
        run(liar())
    assert refused.value.code == "attack.other_worker"


@pytest.mark.parametrize("able", [ABLE, frozenset({Capability.LABEL})])
def test_other_code_behind_the_same_shape_is_refused(able: Any) -> None:
    """It serves other labels, or other scores: nothing else tells it from the model."""
    shown_one = spreading.halves(capabilities=able)
    other = Linear(-shown_one.weights, shown_one.bias, capabilities=able)
    softer = Linear(shown_one.weights / 2, shown_one.bias, capabilities=able)
    work = Work(spreading.opens, Seen.of(shown_one), Served.of(shown_one), (), ASKED)
    require_same(work, shown_one)
    wrong = [other] if Capability.SCORES not in able else [other, softer]
    for one in wrong:
        with pytest.raises(InputError) as refused:
            require_same(work, one)
        assert refused.value.code == "attack.other_worker"
    shard = Shard(0, X, Y, shown_one.predict(X).labels == Y)
    assert attack_shard(work, shown_one, shard).went == ()
    with pytest.raises(InputError) as refused:
        attack_shard(work, other, shard)
    assert refused.value.code == "attack.other_worker"


class Boasts(Here):
    """Says that it broke samples, by rows that are served rightly."""

    def answer(self, done: Done) -> Done:
        first = done.went[0]
        near = np.minimum(first.tally.distance, 0.01)
        tally = replace(first.tally, distance=near)
        return Done((replace(first, tally=tally), *done.went[1:]))


def test_what_is_served_rightly_after_all_makes_the_run_invalid() -> None:
    once = replace(ASKED, epsilons=(0.05,))
    honest = run(Here(), suite=suite(Towards((0.0, 1.0))), asked=once)
    assert "attack.other_worker" not in [one.code for one in honest.problems]
    found = run(Boasts(), suite=suite(Towards((0.0, 1.0))), asked=once)
    assert found.verdict is Verdict.INVALID
    assert "attack.other_worker" in [one.code for one in found.problems]


# Processes


def test_one_process_and_several_find_the_same() -> None:
    alone, many, here = (run(one) for one in (Processes(1), Processes(3), Here()))
    assert facts(alone) == facts(many) == facts(here)
    assert sum(one.cpu_s for one in alone.attacks) > 0


def test_a_worker_that_dies_loses_its_part_alone() -> None:
    found = run(Processes(2), suite=suite(Dies(), Towards((0.0, 1.0))))
    (problem,) = found.problems
    assert "1 of 5 parts of the run, 44 samples" in problem.message
    assert "its worker died" in problem.message
    assert found.attacks[-1].attacked <= 176
    # One worker is replaced, or the rest would be lost with it.
    assert run(Processes(1), suite=suite(Dies(), Towards((0.0, 1.0)))).problems == found.problems


@pytest.mark.slow
def test_a_worker_that_does_not_answer_is_not_waited_for() -> None:
    found = run(Processes(2, patience_s=8.0), suite=suite(Hangs(), Towards((0.0, 1.0))))
    (problem,) = found.problems
    assert "1 of 5 parts" in problem.message
    assert "no answer within 8 s" in problem.message


@pytest.mark.parametrize(
    ("opened", "code"),
    [(spreading.refuses, "attack.other_file"), (spreading.opens_another, "attack.other_worker")],
)
def test_a_worker_with_another_model_is_an_error(opened: Any, code: str) -> None:
    with pytest.raises(InputError) as refused:
        run(Processes(2), opened)
    assert refused.value.code == code


def test_workers_that_cannot_begin_end_the_run() -> None:
    found = run(Processes(2), spreading.dies_at_once)
    assert found.verdict is Verdict.INSUFFICIENT
    assert "5 of 5 parts" in found.problems[0].message
    assert "no worker opened the model" in found.problems[0].message


def test_workers_are_counted() -> None:
    for count in (0, -1, 257):
        with pytest.raises(InputError) as refused:
            Processes(count)
        assert refused.value.code == "attack.bad_workers"


def test_no_worker_outlives_its_run() -> None:
    import multiprocessing

    class Enough(Exception):  # noqa: N818  # no error
        pass

    class Stops(Nobody):
        def shard_ended(self, number: int, of: int, lost: str | None) -> None:
            raise Enough

    with pytest.raises(Enough):
        run(Processes(2), suite=suite(Hangs()), observer=Stops())
    assert not multiprocessing.active_children()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_a_worker_cleans_up_and_ends_by_itself(temporary: Path, tmp_path: Path) -> None:
    opened = partial(spreading.with_files, tmp_path)
    run(Processes(2), opened)
    assert len(list(tmp_path.glob("staged-*"))) == 2
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_no_files(temporary: Path, tmp_path: Path) -> None:
    opened = partial(spreading.with_files, tmp_path)
    left = []

    class Looks(Nobody):
        def shard_ended(self, number: int, of: int, lost: str | None) -> None:
            left.append(len(list(temporary.glob("keepstone-workers-*/*"))))

    # What one that died left is not kept until the end.
    found = run(Processes(1), opened, suite=suite(Dies(), Towards()), observer=Looks())
    assert found.problems
    assert max(left) == 1
    assert list(temporary.iterdir()) == []
    hangs = suite(Hangs(), Towards())
    assert run(Processes(2, patience_s=8.0), opened, suite=hangs).problems
    assert list(temporary.iterdir()) == []


def test_a_worker_never_hears_ctrl_c(temporary: Path, tmp_path: Path) -> None:
    """The first that a process ever begins, too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    run(Processes(1), spreading.shielded)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.spreading", "shielded", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "OK\n", done.stderr


def test_workers_end_with_whoever_is_killed(tmp_path: Path) -> None:
    """They clean up, too."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.lab.spreading", "hangs", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # The other has done all else, and is gone.
        folders, gone = "keepstone-workers-*/*", "staged-*"
        until(
            lambda: (len(list(temporary.glob(folders))), len(list(tmp_path.glob(gone)))) == (1, 1),
            process,
        )
        assert len(list(temporary.glob(f"{folders}/staged-*/model"))) == 1
        process.kill()
        process.wait()
        until(lambda: not members(process.pid) and not list(temporary.iterdir()))
    finally:
        for one in members(process.pid):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()


def until(done: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    last = time.monotonic() + 30
    while not done():
        assert process is None or process.poll() is None
        assert time.monotonic() < last
        time.sleep(0.05)


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for one in Path("/proc").glob("[0-9]*/stat"):
        # It may end meanwhile.
        with suppress(OSError):
            state, _, _, told = one.read_text().rpartition(")")[2].split()[:4]
            if int(told) == session and state != "Z":
                found.append(int(one.parent.name))
    return found


def test_who_ended_is_told() -> None:
    told = []

    class Listens(Nobody):
        def shard_ended(self, number: int, of: int, lost: str | None) -> None:
            told.append((number, of, lost))

    run(Here(lost=(2,)), observer=Listens())
    lost = "it was lost"
    assert told == [(0, 5, None), (1, 5, None), (2, 5, lost), (3, 5, None), (4, 5, None)]


def test_the_threads_of_this_process_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    run(Processes(1), suite=suite(Towards((0.0, 1.0))))
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


# Ray


def test_an_actor_that_is_told_to_end_leaves_no_files(temporary: Path, tmp_path: Path) -> None:
    """In the middle of a part, too: it is told by another thread then."""
    target = shown()
    opened = partial(spreading.with_files, tmp_path)
    work = Work(opened, Seen.of(target), Served.of(target), (), ASKED)
    worker = Worker(work)
    assert worker.ready() == Ready()
    assert len(list(temporary.glob("keepstone-workers-*/staged-*/model"))) == 1
    worker.end()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("address", ["local", "ray://127.0.0.1:1", "here", "", "a:b", "a:1:2"])
def test_an_address_that_is_no_cluster_is_refused(address: str) -> None:
    """`local` would begin one, with what Ray takes for granted."""
    with pytest.raises(InputError) as refused:
        RayCluster(address)
    assert refused.value.code == "attack.bad_cluster"


def test_ray_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OperationalError) as missing:
        RayCluster("127.0.0.1:6379")
    assert missing.value.code == "runtime.missing"
    assert "keepstone[ray]" in missing.value.next_step
