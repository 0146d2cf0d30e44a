"""What every test starts from: no network, one random seed, and no test that skips in silence."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

from tests.keystores import Kms, SoftHsm, kms_server

# Small sums by several threads wait for one another, and the longer the busier the machine is.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# Deadlines measure the machine, not the code: speed has its own tests and the bench.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=60, derandomize=True, **_common)
settings.register_profile("dev", max_examples=100, **_common)
settings.register_profile("thorough", max_examples=1000, print_blob=True, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast" if "CI" in os.environ else "dev"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Close the network for each test; the marker `loopback` opens 127.0.0.1 and ::1 alone.

    Unix sockets stay: they reach no other machine, and every event loop makes a pair of them.
    """
    enable_socket()
    if item.get_closest_marker("loopback"):
        socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    else:
        disable_socket(allow_unix_socket=True)


def _find(program: str, purpose: str) -> str:
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed: needed to {purpose}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture
def need() -> Callable[[str, str], str]:
    """`need("cc", "compile the shim")` returns the program's path.

    Where the program is missing the test fails under CI and is skipped, with the reason,
    elsewhere.
    """
    return _find


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """SoftHSM with the token `keepstone`, and two more that share the label `twin`.

    One for the whole run: its library reads its settings once in a process.
    """
    util = _find("softhsm2-util", "keep keys in a PKCS#11 token")
    return SoftHsm.make(util, tmp_path_factory.mktemp("softhsm"))


@pytest.fixture(scope="session")
def _kms_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with kms_server() as address:
        yield address


@pytest.fixture
def kms(_kms_server: str, monkeypatch: pytest.MonkeyPatch) -> Kms:
    """AWS KMS as moto plays it, on loopback; AWS's own settings name it."""
    return Kms.at(_kms_server, monkeypatch)


@pytest.fixture
def need_module() -> Callable[[str], ModuleType]:
    """`need_module("torch")` returns the module of an extra, as `need` does for programs."""

    def find(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError:
            reason = f"{name} is not installed: see the extras in pyproject.toml"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)

    return find


@pytest.fixture
def small_disk() -> Iterator[Callable[..., Path]]:
    """Mount a file system of a few megabytes at a path; needs root."""
    mounted: list[Path] = []

    def mount(path: Path, megabytes: int = 8) -> Path:
        if os.geteuid() != 0:
            pytest.skip("needs root, to mount a small file system")
        path.mkdir(exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
        done = subprocess.run(["mount", *options], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a small file system: {done.stderr.decode().strip()}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
