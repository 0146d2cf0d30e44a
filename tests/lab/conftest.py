"""What tests of several files of the lab start from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bench.environment import layer_of
from tests.lab.libraries import Models


@pytest.fixture(scope="module")
def libraries() -> Iterator[None]:
    """ART, Foolbox and CleverHans, behind our own packages; installed where they are not."""
    try:
        folder = str(layer_of("adapters"))
    except subprocess.CalledProcessError as error:
        reason = f"the libraries of bench/peers/adapters.txt cannot be installed: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    sys.path.append(folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def models(libraries: None) -> Models:
    if not os.environ.get("CI"):
        pytest.importorskip("torch")
    return Models()


@pytest.fixture(scope="module")
def zoo() -> Any:
    """Models of digits, and what they were trained on."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from bench.zoo import Zoo

    found = Zoo(0)
    found.learnt = found._x.numpy().reshape(-1, 64), found._y.numpy()
    return found
