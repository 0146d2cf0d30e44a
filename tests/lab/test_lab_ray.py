"""Suites on a real Ray cluster of two nodes, begun on loopback as its own program begins them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keepstone.lab.suites.processes import Processes
from tests.lab.spreading import ASKED, X, Y, parts, shown, suite

ROOT = Path(__file__).parent.parent.parent
# In the environment of everything that is begun for one cluster.
_MARK = "KEEPSTONE_TEST_CLUSTER"
pytestmark = [pytest.mark.slow, pytest.mark.loopback]


@dataclass
class Cluster:
    """Nodes are begun with the environment that their workers get."""

    folder: Path
    address: str
    environment: dict[str, str]

    def begin(self, *arguments: str, **more: str) -> None:
        program = shutil.which("ray", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert program is not None
        memory = ("--object-store-memory", "80000000", "--num-cpus", "1")
        command = [program, "start", "--node-ip-address", "127.0.0.1", *memory, *arguments]
        done = subprocess.run(
            command, env=self.environment | more, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, kind: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.lab.spreading", self.address, kind],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One processor on each of two nodes; the second is told that it has another file."""
    _require_ray()
    # Its sockets lie in it, whose paths may not be long.
    folder = Path("/tmp") / f"ks-ray-{os.getpid()}"
    port = _free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    plain |= {
        _MARK: str(folder),
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Warnings of Ray's own are none of ours.
        "PYTHONWARNINGS": "ignore",
    }
    made = Cluster(folder, f"127.0.0.1:{port}", plain)
    try:
        quiet = ("--include-dashboard=false", "--disable-usage-stats")
        made.begin("--head", "--port", str(port), "--temp-dir", str(folder), *quiet)
        made.begin("--address", made.address, KEEPSTONE_TEST_OTHER_FILE="yes")
        yield made
    finally:
        _end(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _require_ray() -> None:
    """As `need_module`, which fixtures of a module cannot use."""
    if importlib.util.find_spec("ray") is None:
        reason = "ray is not installed: see the extras in pyproject.toml"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _processes(folder: Path) -> dict[int, str]:
    """Every process of the cluster, and what it is called: what has the mark in its environment,
    and what those began. (What renames itself writes over its environment.)"""
    called: dict[int, str] = {}
    parents: dict[int, int] = {}
    marked = set()
    for one in Path("/proc").glob("[0-9]*"):
        number = int(one.name)
        # It may end meanwhile, or be another's.
        with suppress(OSError):
            parents[number] = int((one / "stat").read_text().rpartition(")")[2].split()[1])
            called[number] = (one / "cmdline").read_text(errors="replace").replace("\0", " ")
            if f"{_MARK}={folder}" in (one / "environ").read_text(errors="replace").split("\0"):
                marked.add(number)
    while more := {one for one, parent in parents.items() if parent in marked} - marked:
        marked |= more
    return {one: called[one] for one in marked - {os.getpid()} if one in called}


def _end(folder: Path) -> None:
    for process in _processes(folder):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_cluster_finds_what_processes_find(cluster: Cluster) -> None:
    from keepstone.lab.suites.run import run_suite

    found = cluster.run("same")
    here = run_suite(shown(), X, Y, suite(), ASKED, shards=parts(Processes(1))).to_dict()
    for one in here["attacks"]:
        del one["cpu_s"]
    assert found == json.loads(json.dumps(here))


def test_a_machine_with_another_file_ends_the_run(cluster: Cluster) -> None:
    assert cluster.run("other") == {"error": "attack.other_file"}


def test_an_actor_that_dies_loses_its_part_alone(cluster: Cluster) -> None:
    found = cluster.run("dies")
    (problem,) = found["problems"]
    assert (problem["code"], found["verdict"]) == ("attack.shard_lost", "insufficient")
    assert "1 of 5 parts of the run, 44 samples" in problem["message"]
    assert [one["n"] for one in found["robust_accuracy"]] == [220, 220]


def test_an_actor_that_does_not_answer_is_not_waited_for(cluster: Cluster) -> None:
    found = cluster.run("hangs")
    (problem,) = found["problems"]
    assert "1 of 5 parts" in problem["message"]
    assert "no answer within 25 s" in problem["message"]


def test_what_the_documentation_begins_has_no_dashboard(cluster: Cluster) -> None:
    called = list(_processes(cluster.folder).values())
    assert sum(one.split(" ")[0].endswith("/raylet") for one in called) == 2
    heads = [one for one in called if "dashboard.py" in one]
    assert all("--disable-frontend" in one for one in heads)


def test_no_cluster_is_said(cluster: Cluster) -> None:
    nobody = Cluster(cluster.folder, f"127.0.0.1:{_free_port()}", cluster.environment)
    assert nobody.run("same") == {"error": "attack.no_cluster"}
