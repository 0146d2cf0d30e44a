"""A real MLflow server behind the guard: promotions, grants, odd paths, and the four attacks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integrations.mlflow_place import Live, answers, honest, refused

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loopback,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`fraud` 1 and 2 and `churn` 1 are admitted; `fraud` 3 and 4 are not."""
    place = Live(tmp_path_factory.mktemp("live"))
    place.must("init")
    place.mint()
    with place.serving("--app-name", "keepstone"):
        names = {"MLFLOW_TRACKING_AUTH": "keepstone", "KEEPSTONE_API_KEY": place.keys["trainer"]}
        with place.using(**names):
            for sign in (1.0, -1.0, 3.0, 5.0):
                place.log(honest(sign))
            place.log(honest(), "churn")
            for version in (1, 2):
                assert place.admit(version)["allowed"]
            assert place.admit(1, "churn")["allowed"]
            yield place


@pytest.fixture
def client_on(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process loads under guard, as who may pull `fraud`."""
    monkeypatch.setenv("KEEPSTONE_WORKSPACE", str(live.workspace))
    monkeypatch.setenv("KEEPSTONE_API_KEY", live.keys["reader"])


# The four attacks


def test_an_overwritten_artifact_loads_in_plain_mlflow_and_is_refused_under_guard(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answers("models:/fraud/1") == [2.0, -2.0]
    path = live.files(1) / "model.pkl"
    before = path.read_bytes()
    try:
        live.overwrite(1, honest(-1.0))
        assert answers("models:/fraud/1") == [-2.0, 2.0]

        monkeypatch.setenv("KEEPSTONE_WORKSPACE", str(live.workspace))
        assert refused("models:/fraud/1") == "mlflow.changed"
    finally:
        path.write_bytes(before)
    assert answers("models:/fraud/1") == [2.0, -2.0]


def test_another_versions_files_under_this_ones_number_are_refused(
    live: Live, client_on: None
) -> None:
    saved = live.root / "saved"
    for of, under, code in (
        (2, 1, "mlflow.swapped_version"),
        (1, 2, "mlflow.rolled_back"),
    ):
        place = live.files(under)
        place.rename(saved)
        shutil.copytree(live.files(of), place)
        try:
            assert refused(f"models:/fraud/{under}") == code
        finally:
            shutil.rmtree(place)
            saved.rename(place)
    assert answers("models:/fraud/2") == [-2.0, 2.0]


def test_a_version_that_the_database_leads_elsewhere_is_refused(
    live: Live, client_on: None
) -> None:
    from mlflow import MlflowClient

    uris = [MlflowClient().get_model_version_download_uri("fraud", str(one)) for one in (1, 2)]
    change = "UPDATE model_versions SET storage_location = ? WHERE name = 'fraud' AND version = ?"
    live.database(change, uris[0], 2)
    try:
        assert refused("models:/fraud/2") == "mlflow.rolled_back"
    finally:
        live.database(change, uris[1], 2)


def test_an_alias_that_the_database_moved_back_is_refused(live: Live, client_on: None) -> None:
    assert live.promote("releaser", 2, "weekly").status_code == 200
    assert answers("models:/fraud@weekly") == [-2.0, 2.0]
    change = "UPDATE registered_model_aliases SET version = ? WHERE alias = 'weekly'"
    live.database(change, 1)

    assert refused("models:/fraud@weekly") == "mlflow.rolled_back"
    live.database(change, 3)
    assert refused("models:/fraud@weekly") == "mlflow.not_registered"
    live.database(change, 2)
    live.database("UPDATE registered_model_aliases SET alias = 'mine' WHERE alias = 'weekly'")
    assert refused("models:/fraud@mine") == "mlflow.alias_unproven"


@pytest.mark.parametrize("api", ["/api", "/ajax-api"])
def test_a_promotion_without_evidence_is_refused_and_recorded(live: Live, api: str) -> None:
    path = f"{api}/2.0/mlflow/registered-models/alias"
    answer = live.promote("releaser", 3, "champion", path=path)

    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert "[registered.unknown]" in answer.json()["message"]
    assert live.events("alias.denied")[-1]["version"] == 3
    stage = {"name": "fraud", "version": "3", "stage": "Production"}
    stage |= {"archive_existing_versions": False}
    path = f"{api}/2.0/mlflow/model-versions/transition-stage"
    answer = live.call("releaser", "POST", path, stage)
    assert answer.status_code == 403
    assert "[registered.unknown]" in answer.json()["message"]


def test_a_promotion_with_evidence_goes_through_and_stays_on_the_record(
    live: Live, client_on: None
) -> None:
    assert live.promote("releaser", 1).status_code == 200
    assert answers("models:/fraud@champion") == [2.0, -2.0]
    moved = live.events("alias.moved")[-1]
    assert (moved["version"], moved["principal"]) == (1, "user:releaser")

    body = {"name": "fraud", "version": "1", "stage": "Production"}
    body |= {"archive_existing_versions": False}
    path = "/api/2.0/mlflow/model-versions/transition-stage"
    assert live.call("releaser", "POST", path, body).status_code == 200
    assert answers("models:/fraud/Production") == [2.0, -2.0]


# Who may what


def test_without_a_credential_there_is_liveness_and_nothing_else(live: Live) -> None:
    assert live.call(None, "GET", "/health").text == "OK"
    for path in (
        "/api/2.0/mlflow/registered-models/search",
        "/ajax-api/2.0/mlflow/experiments/search?max_results=1",
        "/api/2.0/mlflow-artifacts/artifacts",
        "/graphql",
        "/api/3.0/mlflow/server-info",
        "/get-artifact?path=x&run_uuid=y",
        "/api/2.0/mlflow/users/list",
        "/v1/traces",
        "/nothing",
    ):
        answer = live.call(None, "GET", path)
        assert answer.status_code == 401, path
    wrong = {"Authorization": "Bearer ks_nobody"}
    answer = live.call(None, "GET", "/api/2.0/mlflow/registered-models/search", headers=wrong)
    assert answer.status_code == 401
    both = [("Authorization", f"Bearer {live.keys['reader']}"), ("Authorization", "Basic eDp5")]
    answer = httpx.get(f"{live.server.url}/api/2.0/mlflow/registered-models/search", headers=both)
    assert answer.status_code == 401


def test_a_revoked_key_is_refused_at_once(live: Live) -> None:
    words = ["keys", "create", "user:brief", "--role", "puller", "--format", "json"]
    made = json.loads(live.must(*words).stdout)
    live.keys["brief"] = made["key"]
    path = "/api/2.0/mlflow/registered-models/search"
    assert live.call("brief", "GET", path).status_code == 200
    live.must("keys", "revoke", made["key_id"])
    assert live.call("brief", "GET", path).status_code == 401


def test_two_principals_see_their_own_models_and_nothing_of_the_others(live: Live) -> None:
    def names(who: str) -> list[str]:
        found = live.call(who, "GET", "/api/2.0/mlflow/registered-models/search").json()
        return [one["name"] for one in found.get("registered_models", [])]

    assert names("reader") == ["fraud"]
    assert names("other") == ["churn"]
    assert names("trainer") == ["churn", "fraud"]
    path = "/api/2.0/mlflow/model-versions/search"
    seen = live.call("other", "GET", path).json()
    assert {one["name"] for one in seen["model_versions"]} == {"churn"}

    # One at a time, so that a page or a token would tell of what lies between.
    found, token = [], ""
    while True:
        answer = live.call("reader", "GET", f"{path}?max_results=1&page_token={token}").json()
        found += [int(one["version"]) for one in answer.get("model_versions", [])]
        token = answer.get("next_page_token", "")
        if not token:
            break
    assert sorted(found) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "registered-models/get?name={}"),
        ("GET", "registered-models/get-latest-versions?name={}"),
        ("GET", "model-versions/get?name={}&version=1"),
        ("GET", "model-versions/get-download-uri?name={}&version=1"),
        ("GET", "registered-models/alias?name={}&alias=champion"),
        ("POST", "registered-models/alias"),
        ("DELETE", "registered-models/delete"),
        ("POST", "registered-models/set-tag"),
    ],
)
def test_a_model_of_somebody_else_is_told_as_one_that_is_not_there(
    live: Live, method: str, path: str
) -> None:
    def told(name: str) -> tuple[int, str]:
        body = {"name": name, "alias": "champion", "version": "1", "key": "k", "value": "v"}
        url = f"/api/2.0/mlflow/{path.format(name)}"
        answer = live.call("other", method, url, None if method == "GET" else body)
        return answer.status_code, answer.text.replace(name, "NAME")

    assert told("fraud") == told("absent")
    assert told("fraud")[0] == 404


def test_graphql_shows_no_more_than_rest(live: Live) -> None:
    query = "query { mlflowSearchModelVersions(input: {}) { modelVersions { name version } } }"
    answer = live.call("other", "POST", "/graphql", {"query": query})
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]["mlflowSearchModelVersions"]["modelVersions"]
    assert {one["name"] for one in found} == {"churn"}
    assert live.call("reader", "POST", "/graphql", {"query": query}).status_code == 403


def test_files_are_for_who_may_pull_and_admitted_ones_never_change(live: Live) -> None:
    for api in ("/api", "/ajax-api"):
        root = f"{api}/2.0/mlflow-artifacts/artifacts"
        place = live.files(1).relative_to(live.root / "artifacts").as_posix()
        assert live.call("reader", "GET", f"{root}/{place}/MLmodel").status_code == 200
        assert live.call("reader", "GET", f"{root}?path={place}").status_code == 200
        assert live.call("other", "GET", f"{root}/{place}/MLmodel").status_code == 403
        assert live.call("other", "GET", f"{root}?path={place}").status_code == 403
        # Of no admitted version: only for who may push something.
        bare = live.files(3).relative_to(live.root / "artifacts").as_posix()
        assert live.call("reader", "GET", f"{root}/{bare}/MLmodel").status_code == 403
        for method, path in (
            ("PUT", f"{root}/{place}/model.pkl"),
            ("DELETE", f"{root}/{place}"),
            ("DELETE", f"{root}/{place.split('/')[0]}"),
            ("POST", f"{api}/2.0/mlflow-artifacts/mpu/create/{place}/model.pkl"),
        ):
            answer = live.call("trainer", method, path, {})
            assert answer.status_code == 403, path
            assert "[mlflow.admitted_files]" in answer.text
    assert (live.files(1) / "model.pkl").exists()


def test_who_may_not_promote_does_not(live: Live) -> None:
    assert live.promote("reader", 1).status_code == 403
    assert live.promote("trainer", 1).status_code == 403
    assert live.promote("other", 1).status_code == 404


ODD = [
    "//api/2.0/mlflow/registered-models/search",
    "/api/2.0//mlflow/registered-models/search",
    "/api/2.0/mlflow/./registered-models/search",
    "/x/../api/2.0/mlflow/registered-models/search",
    "/api%2f2.0/mlflow/registered-models/search",
    "/api/2.0/mlflow/registered-models%2fsearch",
    "/api/2.0/mlflow/%72egistered-models/search",
    "/health/../api/2.0/mlflow/registered-models/search",
    "/health;/api/2.0/mlflow/registered-models/search",
    "/static-files/../api/2.0/mlflow/registered-models/search",
    "/static-files/..%2fapi/2.0/mlflow/registered-models/search",
    "/API/2.0/mlflow/registered-models/search",
    "/api/2.0/mlflow/registered-models/search/",
    "/api/2.0/mlflow-artifacts/artifacts/%2e%2e/%2e%2e/mlflow.db",
    "/api/2.0/mlflow-artifacts/artifacts/..%252f..%252fmlflow.db",
    "/api/2.0/mlflow-artifacts/artifacts/../../mlflow.db",
    "/api/2.0/mlflow-artifacts/artifacts?path=../..",
    "/ajax-api/2.0/mlflow-artifacts/artifacts?path=1&path=../..",
    "/api/2.0/mlflow-artifacts/artifacts/..\\..\\mlflow.db",
]


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("who", [None, "reader", "trainer"])
def test_an_odd_spelling_of_a_path_leads_nowhere(live: Live, path: str, who: str | None) -> None:
    """Sent as it is: httpx would tidy it up."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", live.server.port, timeout=30)
    headers = {"Authorization": f"Bearer {live.keys[who]}"} if who else {}
    connection.putrequest("GET", path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if who is None:
        assert answer.status in (400, 401), body
    elif "%72" in path:
        # Plainly decoded by both routers: the same route, and the same answer.
        assert answer.status == 200
    else:
        assert answer.status in (400, 403, 404), body
        assert b"SQLite" not in body


def test_a_body_that_two_readers_could_read_differently_promotes_nothing(live: Live) -> None:
    """MLflow reads it, once: the last of two versions, a text of JSON, a form all end the same."""
    path = "/api/2.0/mlflow/registered-models/alias"
    twice = b'{"name":"fraud","alias":"odd","version":"1","version":"3"}'
    text = json.dumps(json.dumps({"name": "fraud", "alias": "odd", "version": "3"})).encode()
    headers = {"Authorization": f"Bearer {live.keys['releaser']}"}
    for body in (twice, text):
        answer = httpx.post(f"{live.server.url}{path}", content=body, headers=headers, timeout=60)
        assert answer.status_code in (400, 403), answer.text
    found = live.call("releaser", "GET", f"{path}?name=fraud&alias=odd")
    assert found.status_code in (400, 404)


def test_reads_and_refusals_are_in_the_ledger(live: Live) -> None:
    live.call("reader", "GET", "/api/2.0/mlflow/registered-models/get?name=fraud")
    live.call("other", "GET", "/api/2.0/mlflow/registered-models/get?name=fraud")
    deadline = time.monotonic() + 20
    while True:
        calls = live.events("registry.call")
        mine = {
            (one["principal"], one["decision"])
            for one in calls
            if one["action"] == "get_registered_model"
        }
        if {("user:reader", "allowed"), ("user:other", "policy.denied")} <= mine:
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_workspace_that_cannot_be_read_stops_everything(live: Live) -> None:
    policy = live.workspace / "policy.toml"
    aside = policy.with_suffix(".aside")
    policy.rename(aside)
    try:
        answer = live.promote("releaser", 1, "later")
        assert answer.status_code in (400, 503)
        found = live.call("reader", "GET", "/api/2.0/mlflow/registered-models/search")
        assert found.status_code in (400, 503)
    finally:
        aside.rename(policy)
    assert live.promote("releaser", 1, "later").status_code == 200


def test_a_revoked_version_is_neither_loaded_nor_promoted(live: Live, client_on: None) -> None:
    """Last: it stays revoked."""
    from keepstone.identity.signing import SigningKey, write_secret_file

    key, private = SigningKey.generate(), live.root / "carol.pem"
    write_secret_file(private, key.to_pem())
    public = live.root / "carol.pub.pem"
    public.write_bytes(key.verifying.pem)
    live.must("signers", "add", "carol", public, "--role", "responder")
    found = live.admit(2)
    live.must("revoke", found["digest"], "--as", private, "--reason", "poisoned")

    assert refused("models:/fraud/2") == "gate.revoked"
    answer = live.promote("releaser", 2)
    assert answer.status_code == 403
    assert "[gate.revoked]" in answer.json()["message"]
