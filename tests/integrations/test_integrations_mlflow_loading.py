"""Loading from MLflow: the four attacks on a store and a registry, and what honest users see."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.errors import KeepstoneError

from .conftest import SAMPLE, Guarded, honest

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

Code = Callable[..., str]


def load(uri: str) -> Any:
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(uri)


def answers(uri: str) -> list[float]:
    return [float(one) for one in np.round(load(uri).predict(SAMPLE))]


def refused(uri: str) -> str:
    with pytest.raises(KeepstoneError) as caught:
        load(uri)
    return caught.value.code


@pytest.fixture(params=["workspace", "bundle"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Turn the guard on for this process, by the workspace or by a fresh trust bundle."""

    def turn(place: Guarded) -> None:
        if request.param == "workspace":
            monkeypatch.setenv("KEEPSTONE_WORKSPACE", str(place.workspace))
            return
        bundle = place.root / "fraud.trust"
        done = place.must("trust", "export", "--out", bundle)
        monkeypatch.setenv("KEEPSTONE_TRUST_BUNDLE", str(bundle))
        monkeypatch.setenv("KEEPSTONE_TRUST_KEY", done.stdout.strip())

    return turn


def test_an_overwritten_artifact_loads_in_plain_mlflow_and_is_refused_under_guard(
    guarded: Guarded, on: Callable[..., None]
) -> None:
    guarded.admit(1)
    assert answers("models:/fraud/1") == [2.0, -2.0]

    guarded.overwrite(1, honest(-1.0))
    # Plain MLflow: not a word, and other answers.
    assert answers("models:/fraud/1") == [-2.0, 2.0]

    on(guarded)
    assert refused("models:/fraud/1") == "mlflow.changed"
