"""MLflow's names, places and paths: one meaning each, and nothing odd gets through."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepstone.core.subject import check_name
from keepstone.errors import InputError
from keepstone.integrations.mlflow.admitting import Version
from keepstone.integrations.mlflow.names import location_of, subject_name
from keepstone.integrations.mlflow.routes import About, about, is_plain

NAMES = st.text(min_size=1, max_size=80)


def named(text: str) -> str | None:
    try:
        return subject_name(text)
    except InputError:
        return None


@given(NAMES, NAMES)
@example("Fraud", "fraud")
@example("fraud ", "fraud")
@example("frаud", "fraud")  # noqa: RUF001  # a Cyrillic letter
@example("a" * 65, "a" * 64)
def test_no_two_models_of_mlflow_share_a_name_here(one: str, other: str) -> None:
    found = named(one), named(other)
    for name in found:
        assert name is None or check_name(name)
    # Nobody can take the name that another model's name becomes.
    for name in found:
        assert name is None or named(name) == name or named(name) not in found
    if one != other and None not in found:
        assert found[0] != found[1]


def test_a_valid_name_stands_for_itself_unless_it_looks_like_a_hashed_one() -> None:
    assert subject_name("fraud-2.1_x") == "fraud-2.1_x"
    hashed = subject_name("Fraud Model")
    assert hashed.startswith("fraud-model-x")
    assert subject_name(hashed) != hashed


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a\x00b", "\ud800", "a" * 257, "a\u202eb"])
def test_a_name_that_no_statement_can_carry_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="bad_name"):
        subject_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "models:/fraud@champion",
        "models:/fraud/latest",
        "models:/fraud/0",
        "models:/fraud/٣",
        "models:/m-123",
        "fraud/1",
        "models:/fraud/1/model.pkl",
        "models:/fraud/-1",
        "models://1",
    ],
)
def test_only_a_version_by_its_number_is_admitted(text: str) -> None:
    with pytest.raises(InputError, match=r"mlflow\.bad_(uri|name)"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("file:///srv/a/", "/srv/a"),
        ("keepstone+file:///srv/a", "/srv/a"),
        ("/srv/a", "/srv/a"),
        ("mlflow-artifacts:/1/m", "mlflow-artifacts:/1/m"),
        ("mlflow-artifacts://host:5000/1/m", "mlflow-artifacts:/1/m"),
        ("keepstone+mlflow-artifacts:///1/m/", "mlflow-artifacts:/1/m"),
        ("s3://bucket/a", "s3://bucket/a"),
    ],
)
def test_a_place_has_one_spelling(uri: str, place: str) -> None:
    assert location_of(uri) == place


@pytest.mark.parametrize(
    ("path", "touched"),
    [
        ("/health", About.PUBLIC),
        ("/", About.PUBLIC),
        ("/health/x", About.CLOSED),
        ("/api/2.0/mlflow/registered-models/alias", About.REGISTRY),
        ("/ajax-api/2.0/mlflow/model-versions/transition-stage", About.REGISTRY),
        ("/API/2.0/mlflow/registered-models/alias", About.CLOSED),
        ("/api/2.0/mlflow/registered-modelsx/alias", About.CLOSED),
        ("/api/2.0/mlflow-artifacts/artifacts/1/m/model.pkl", About.ARTIFACTS),
        ("/api/2.0/mlflow-artifacts/other/1", About.CLOSED),
        ("/api/2.0/mlflow/logged-models/m-1/artifacts/files", About.EVERYTHING),
        ("/api/2.0/mlflow/logged-models/m-1", About.TRACKING),
        ("/api/2.0/mlflow/users/create", About.CLOSED),
        ("/api/3.0/mlflow/anything-new", About.CLOSED),
        ("/gateway/x/invocations", About.CLOSED),
        ("/v1/traces", About.CLOSED),
    ],
)
def test_a_route_that_nobody_thought_of_is_closed(path: str, touched: About) -> None:
    assert about(path)[0] is touched
    assert about(f"/ml{path}", "/ml")[0] is touched


@given(st.text(alphabet="/.%\\;ab2\x00é", max_size=20))
def test_a_plain_path_is_read_alike_by_everybody(text: str) -> None:
    path = f"/{text}"
    if is_plain(path, path.encode()):
        assert not set(path) & set("\\%;\x00")
        assert "//" not in path
        assert not {".", ".."} & set(path.split("/"))
