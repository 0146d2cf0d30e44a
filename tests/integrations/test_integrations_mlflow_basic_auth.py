"""The guard around MLflow's basic-auth application: its users, our evidence, both credentials."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.mlflow_server import mlflow_python
from tests.integrations.mlflow_place import Live, honest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loopback,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

ADMIN = ("admin", "a-long-password-of-the-tests")
ALIAS = "/api/2.0/mlflow/registered-models/alias"


def settings(root: Path) -> dict[str, str]:
    """What MLflow's basic-auth application asks for."""
    config = root / "auth.ini"
    config.write_text(
        f"""[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{root}/auth.db
admin_username = {ADMIN[0]}
authorization_function = keepstone.integrations.mlflow.authorization:authenticate_request
grant_default_workspace_access = false
"""
    )
    return {
        "KEEPSTONE_MLFLOW_APP": "basic-auth",
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-secret-of-the-tests",
    }


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two versions of `fraud`, logged by MLflow's admin; the first is admitted."""
    place = Live(tmp_path_factory.mktemp("basic"))
    place.must("init")
    place.mint()
    with place.serving("--app-name", "keepstone", **settings(place.root)):
        names = {"MLFLOW_TRACKING_USERNAME": ADMIN[0], "MLFLOW_TRACKING_PASSWORD": ADMIN[1]}
        with place.using(**names):
            assert [place.log(honest()), place.log(honest(-1.0))] == [1, 2]
            assert place.admit(1)["allowed"]
            yield place


def move(live: Live, version: int, auth: tuple[str, str] | None) -> httpx.Response:
    body = {"name": "fraud", "alias": "champion", "version": str(version)}
    return httpx.post(f"{live.server.url}{ALIAS}", json=body, auth=auth, timeout=60)


def test_mlflows_admin_promotes_with_evidence_only(live: Live) -> None:
    refused = move(live, 2, ADMIN)
    assert refused.status_code == 403
    assert "[registered.unknown]" in refused.json()["message"]
    assert live.events("alias.denied")[-1]["principal"] == "mlflow:admin"

    assert move(live, 1, ADMIN).status_code == 200
    assert live.events("alias.moved")[-1]["principal"] == "mlflow:admin"


@pytest.mark.parametrize("version", [1, 2])
def test_who_mlflow_does_not_know_learns_nothing_of_evidence(live: Live, version: int) -> None:
    assert move(live, version, None).status_code == 401
    assert move(live, version, ("admin", "wrong")).status_code == 401


def test_a_keepstone_credential_acts_as_the_mlflow_user_of_its_principal(live: Live) -> None:
    path = "/api/2.0/mlflow/registered-models/get?name=fraud"
    # Its grants are good, and MLflow does not know the user.
    assert live.call("releaser", "GET", path).status_code != 200
    users = f"{live.server.url}/api/2.0/mlflow/users"
    permissions = f"{live.server.url}/api/3.0/mlflow/users/permissions/grant"
    for name in ("user:releaser", "user:reader"):
        made = {"username": name, "password": "another-long-password"}
        assert httpx.post(f"{users}/create", json=made, auth=ADMIN, timeout=60).status_code == 200
    # MLflow knows the user, and lets them do nothing yet.
    assert live.call("releaser", "GET", path).status_code == 403
    for name in ("user:releaser", "user:reader"):
        grant = {"username": name, "resource_type": "registered_model"}
        grant |= {"resource_id": "fraud", "permission": "MANAGE"}
        answer = httpx.post(permissions, json=grant, auth=ADMIN, timeout=60)
        assert answer.status_code == 200, answer.text

    assert live.call("releaser", "GET", path).status_code == 200
    assert live.promote("releaser", 2).status_code == 403
    assert live.promote("releaser", 1).status_code == 200
    # What MLflow lets them do, their grants must reach as well.
    answer = live.promote("reader", 1)
    assert (answer.status_code, "[policy.denied]" in answer.text) == (403, True)


def test_admitted_files_do_not_change_for_mlflows_admin_either(live: Live) -> None:
    place = live.files(1).relative_to(live.root / "artifacts").as_posix()
    path = f"{live.server.url}/api/2.0/mlflow-artifacts/artifacts/{place}/model.pkl"
    answer = httpx.put(path, content=b"x", auth=ADMIN)
    assert (answer.status_code, "[mlflow.admitted_files]" in answer.text) == (403, True)


def test_a_forged_caller_is_nobody(live: Live) -> None:
    """What the application in front knows of a caller comes from no header."""
    headers = {"X-Keepstone-Principal": "user:releaser", "REMOTE_USER": "user:releaser"}
    path = f"{live.server.url}/api/2.0/mlflow/registered-models/get?name=fraud"
    assert httpx.get(path, headers=headers).status_code == 401


def test_under_a_trust_bundle_evidence_decides_until_the_bundle_expires(tmp_path: Path) -> None:
    place = Live(tmp_path)
    place.must("init")
    bundle = tmp_path / "server.trust"
    done = place.must("trust", "export", "--out", bundle)
    given = {"KEEPSTONE_TRUST_BUNDLE": str(bundle), "KEEPSTONE_TRUST_KEY": done.stdout.strip()}
    with place.serving(
        "--app-name", "keepstone", "--static-prefix", "/ml", **settings(tmp_path), **given
    ):
        place.environment["MLFLOW_TRACKING_URI"] = f"{place.server.url}/ml"
        with place.using(MLFLOW_TRACKING_USERNAME=ADMIN[0], MLFLOW_TRACKING_PASSWORD=ADMIN[1]):
            place.log(honest())
            url = f"{place.server.url}/ml{ALIAS}"
            body = {"name": "fraud", "alias": "champion", "version": "1"}
            answer = httpx.post(url, json=body, auth=ADMIN)
            assert (answer.status_code, "[mlflow.not_registered]" in answer.text) == (403, True)

            assert place.admit(1)["allowed"]
            place.must("trust", "export", "--out", bundle, "--expires", "6s")
            assert httpx.post(url, json=body, auth=ADMIN).status_code == 200
            place.wait_until(lambda: httpx.post(url, json=body, auth=ADMIN).status_code == 403)
            assert "[trust.expired]" in httpx.post(url, json=body, auth=ADMIN).text
            for odd in ("/ml//api/2.0/mlflow/registered-models/search", "/ml/ml/health"):
                assert httpx.get(f"{place.server.url}{odd}").status_code in (400, 401)


def test_a_server_without_anything_to_decide_by_does_not_start(tmp_path: Path) -> None:
    code = "from keepstone.integrations.mlflow.server import create_app; create_app()"
    for given, told in (
        ({}, "mlflow.not_configured"),
        ({"KEEPSTONE_WORKSPACE": str(tmp_path / "none")}, "workspace.missing"),
        ({"KEEPSTONE_MLFLOW_APP": "none"}, "mlflow.bad_app"),
        ({"_MLFLOW_SGI_NAME": "gunicorn"}, "mlflow.needs_uvicorn"),
        ({"KEEPSTONE_TRUST_BUNDLE": str(tmp_path / "none")}, "mlflow.not_configured"),
    ):
        environment = {"_MLFLOW_SGI_NAME": "uvicorn", "PATH": "/usr/bin", "HOME": str(tmp_path)}
        done = subprocess.run(
            [mlflow_python(), "-c", code],
            env=environment | given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr


def test_every_route_of_mlflow_is_one_that_was_looked_at() -> None:
    """A new one fails here, and is closed until somebody says what it touches."""
    here = Path(__file__).parent
    done = subprocess.run(
        [mlflow_python(), here / "mlflow_routes.py"],
        env={"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == (here / "mlflow_routes.txt").read_text().splitlines()
    promoting = [one for one in done.stdout.splitlines() if "alias" in one or "stage" in one]
    assert len(promoting) > 6
    assert all(one.endswith((" registry", " closed")) for one in promoting)
