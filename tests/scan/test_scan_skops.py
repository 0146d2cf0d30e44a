"""skops files: types that the loader trusts are clean, and nothing hides beside them."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keepstone.core.finding import Outcome
from keepstone.scan.formats import identify
from tests.scan.judging import outcome_of, rules_of


def dumped(estimator: Any) -> bytes:
    x, y = load_iris(return_X_y=True)
    return bytes(skops.io.dumps(estimator.fit(x, y)))


def changed(data: bytes, **members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.pop(name.replace(".", "__"), old.read(name)))
        for name, content in members.items():
            new.writestr(name.replace("__", "."), content)
    return out.getvalue()


def schema_of(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found: dict[str, Any] = json.loads(archive.read("schema.json"))
    return found


@pytest.fixture(scope="module")
def honest() -> bytes:
    return dumped(make_pipeline(StandardScaler(), LogisticRegression()))


def test_honest_estimators_are_clean(honest: bytes) -> None:
    assert identify(memoryview(honest)) == "skops"
    assert outcome_of(honest) is Outcome.CLEAN
    assert outcome_of(dumped(RandomForestClassifier(n_estimators=2))) is Outcome.CLEAN


def test_a_library_type_that_the_loader_withholds_is_not_flagged() -> None:
    data = dumped(HistGradientBoostingClassifier(max_iter=2))
    assert outcome_of(data) is not Outcome.FLAGGED


@pytest.mark.parametrize(
    ("kind", "module", "name", "rule"),
    [
        ("ObjectNode", "os", "system", "skops.dangerous_type"),
        ("FunctionNode", "builtins", "eval", "skops.dangerous_type"),
        ("MethodNode", "builtins", "method", "skops.unknown_type"),
        ("PartialNode", "functools", "partial", "skops.dangerous_type"),
        ("ObjectNode", "evil", "Class", "skops.unknown_type"),
        ("FunctionNode", "sklearn.utils", "anything", "skops.unknown_type"),
    ],
)
def test_a_type_beyond_the_lists_is_flagged(
    honest: bytes, kind: str, module: str, name: str, rule: str
) -> None:
    schema = schema_of(honest)
    schema["content"] = {
        "nested": [{"__loader__": kind, "__module__": module, "__class__": name}],
        "was": schema.get("content"),
    }
    data = changed(honest, schema__json=json.dumps(schema).encode())
    assert rule in rules_of(data)
    assert outcome_of(data) is Outcome.FLAGGED


def test_what_lies_beside_the_schema_is_judged(honest: bytes) -> None:
    assert outcome_of(changed(honest, extra__pkl=b"cos\nsystem\n(S'id'\ntR.")) is Outcome.FLAGGED
    array = io.BytesIO()
    np.save(array, np.array([{}], dtype=object), allow_pickle=True)
    assert outcome_of(changed(honest, more__npy=array.getvalue())) is Outcome.CLEAN


def test_a_schema_that_is_none_is_judged_as_what_it_is(honest: bytes) -> None:
    loader = json.dumps({"_target_": "os.system", "command": "id"}).encode()
    assert outcome_of(changed(honest, schema__json=loader)) is Outcome.FLAGGED
    assert outcome_of(changed(honest, schema__json=b"{")) is not Outcome.CLEAN
    twice = b'{"__loader__": "ObjectNode", "__loader__": "x"}'
    assert outcome_of(changed(honest, schema__json=twice)) is not Outcome.CLEAN
