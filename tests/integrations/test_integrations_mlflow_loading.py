"""Loading from MLflow: the four attacks on a store and a registry, and what honest users see."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integrations.mlflow_place import Guarded, answers, honest, refused

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


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
