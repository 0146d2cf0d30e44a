from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from keepstone.contract.openapi import openapi
from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec

X = TensorSpec("x", DType.FP32, (ANY, 2), 0.0, 16.0, ("a", "b"))
OUT = TensorSpec("y", DType.INT64, (ANY,))
ONE = ModelContract((X,), (OUT,))
TWO = ModelContract((X, TensorSpec("t", DType.BYTES, (ANY,))), (OUT,))


def document(contract: ModelContract, *, plain: bool = True) -> dict:
    made = openapi({"m": contract}, title="T", version="1", url="https://h", plain=plain)
    return json.loads(json.dumps(made))


def body_schema(made: dict, path: str) -> Draft202012Validator:
    schema = made["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_only_liveness_is_open():
    made = document(ONE)
    assert made["openapi"] == "3.1.0"
    public = [
        path
        for path, item in made["paths"].items()
        for operation in item.values()
        if operation.get("security") == []
    ]
    assert public == ["/v2/health/live"]
    assert made["security"]


def test_every_reference_resolves():
    made = document(ONE)
    assert made["components"]["schemas"].keys() == {"Problem"}
    text = json.dumps(made)
    assert text.count('"$ref"') == text.count('"#/components/schemas/Problem"')


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"inputs": [[1, 2]]}, True),
        ({"instances": [[1, 2], [3, 4]]}, True),
        ({"inputs": [{"a": 1, "b": 2}]}, True),
        ({"inputs": {"x": [[1, 2]]}}, True),
        ({"inputs": [[1]]}, False),
        ({"inputs": [[1, 17]]}, False),
        ({"inputs": [["1", 2]]}, False),
        ({"inputs": [{"a": 1}]}, False),
        ({"inputs": [[1, 2]], "instances": [[1, 2]]}, False),
        ({"data": [[1, 2]]}, False),
    ],
)
def test_the_plain_body_is_described_as_it_is_read(value, good):
    assert body_schema(document(ONE), "/predict").is_valid(value) is good


def test_the_inference_body_is_described():
    made = document(ONE)
    schema = body_schema(made, "/v2/models/m/infer")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    assert schema.is_valid({"inputs": [tensor]})
    assert schema.is_valid({"inputs": [tensor | {"data": [[1, 2]]}], "id": "a"})
    assert not schema.is_valid({"inputs": [tensor | {"datatype": "FP64"}]})
    assert not schema.is_valid({"inputs": []})
    assert not schema.is_valid({"inputs": [tensor], "surprise": 1})


def test_several_inputs_are_named():
    schema = body_schema(document(TWO), "/predict")
    assert schema.is_valid({"inputs": {"x": [[1, 2]], "t": ["a"]}})
    assert not schema.is_valid({"inputs": {"x": [[1, 2]]}})
    assert not schema.is_valid({"inputs": [[1, 2]]})


def test_without_the_plain_form_there_is_no_predict():
    assert "/predict" not in document(ONE, plain=False)["paths"]
