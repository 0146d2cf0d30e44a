"""The OpenAPI 3.1 document of an endpoint, from the contracts of its models. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_ELEMENTS: dict[DType, dict[str, Any]] = {
    datatype: {"type": "number" if datatype.is_float else "integer"} for datatype in DType
} | {DType.BOOL: {"type": "boolean"}, DType.BYTES: {"type": "string"}}
_REFUSALS = {
    "400": "The request is malformed or does not keep to the model's contract.",
    "401": "No credential, or not one that is known and live.",
    "403": "The policy, a grant or a revocation says no.",
    "413": "The body is larger than the policy allows.",
    "429": "A limit is reached; Retry-After says when to come back.",
    "503": "Not admitted, or the audit trail cannot keep up.",
}


def openapi(
    models: Mapping[str, ModelContract], *, title: str, version: str, url: str, plain: bool
) -> dict[str, Any]:
    """Describe an endpoint that serves `models` at `url`.

    With `plain` there is one model, which answers `/predict` too.
    """
    paths: dict[str, Any] = {
        "/v2": {"get": _get("Server metadata", {"type": "object"})},
        "/v2/health/live": {"get": _get("Is the process alive", _FLAG, public=True)},
        "/v2/health/ready": {"get": _get("Is every model admitted", _FLAG)},
    }
    for name, contract in models.items():
        base = f"/v2/models/{name}"
        infer = _post(f"Predict with {name}", _infer_schema(contract), _answer_schema(contract))
        paths[base] = {"get": _get(f"Metadata of {name}", {"type": "object"})}
        paths[f"{base}/ready"] = {"get": _get(f"Is {name} admitted", {"type": "object"})}
        paths[f"{base}/infer"] = {"post": infer}
        if plain:
            predict = _post(f"Predict with {name}", _plain_schema(contract), {"type": "object"})
            paths["/predict"] = {"post": predict}
    paths["/metrics"] = {"get": _get("Prometheus metrics", {"type": "string"}, kind="text/plain")}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": url}],
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "schemas": {"Problem": _PROBLEM_SCHEMA},
        },
    }


_FLAG = {"type": "object", "additionalProperties": {"type": "boolean"}}
_PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457 problem details. `code` is stable.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "error": {"type": "string", "description": "As the Open Inference Protocol has it."},
        "detail": {"type": "string"},
        "next_step": {"type": "string"},
    },
}


def _refusals(*statuses: str) -> dict[str, Any]:
    content = {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {s: {"description": _REFUSALS[s], "content": content} for s in statuses}


def _get(
    summary: str, schema: dict[str, Any], *, public: bool = False, kind: str = _JSON
) -> dict[str, Any]:
    answers = {"200": {"description": "OK", "content": {kind: {"schema": schema}}}}
    if public:
        return {"summary": summary, "security": [], "responses": answers}
    return {"summary": summary, "responses": answers | _refusals("401", "403", "429")}


def _post(summary: str, body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    done = {
        "description": "The prediction.",
        "headers": {
            "Keepstone-Entry": {
                "description": "The id of the ledger entry of this answer.",
                "schema": {"type": "string"},
            }
        },
        "content": {_JSON: {"schema": answer}},
    }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
        "responses": {"200": done, **_refusals(*_REFUSALS)},
    }


def _tensor_schema(spec: TensorSpec) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": str(spec.datatype)},
            "shape": {"type": "array", "items": {"type": "integer"}, "description": _shape(spec)},
            "data": {"description": "Flat, or nested as its shape says.", **_flat(_element(spec))},
        },
    }


def _element(spec: TensorSpec) -> dict[str, Any]:
    schema = dict(_ELEMENTS[spec.datatype])
    if isinstance(spec.low, float | int):
        schema["minimum"] = spec.low
    if isinstance(spec.high, float | int):
        schema["maximum"] = spec.high
    return schema


def _flat(element: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": {"anyOf": [element, {"type": "array"}]}}


def _nested(spec: TensorSpec) -> dict[str, Any]:
    schema = _element(spec)
    for length in reversed(spec.shape):
        schema = {"type": "array", "items": schema}
        if length != ANY:
            schema |= {"minItems": length, "maxItems": length}
    return schema


def _shape(spec: TensorSpec) -> str:
    return "[" + ", ".join("any" if d == ANY else str(d) for d in spec.shape) + "]"


def _infer_schema(contract: ModelContract) -> dict[str, Any]:
    tensors = [_tensor_schema(spec) for spec in contract.inputs]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": {"oneOf": tensors}, "minItems": len(tensors)},
            "outputs": {"type": "array", "items": {"type": "object"}},
            "parameters": {"type": "object"},
        },
        "additionalProperties": False,
    }


def _answer_schema(contract: ModelContract) -> dict[str, Any]:
    names = [spec.name for spec in contract.outputs]
    tensor = {"type": "object", "properties": {"name": {"enum": names}}}
    return {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": tensor},
        },
    }


def _plain_schema(contract: ModelContract) -> dict[str, Any]:
    only = contract.inputs[0]
    forms: list[dict[str, Any]] = []
    if len(contract.inputs) == 1:
        forms.append(_nested(only))
        if only.features and len(only.shape) == 2:
            element = _ELEMENTS[only.datatype]
            row = {
                "type": "object",
                "required": list(only.features),
                "properties": dict.fromkeys(only.features, element),
                "additionalProperties": False,
            }
            forms.append({"type": "array", "items": row, "minItems": 1})
    by_name = {spec.name: _nested(spec) for spec in contract.inputs}
    forms.append({"type": "object", "required": list(by_name), "properties": by_name})
    value = {"anyOf": forms}
    return {
        "oneOf": [
            {
                "type": "object",
                "required": [member],
                "properties": {member: value},
                "additionalProperties": False,
            }
            for member in ("inputs", "instances")
        ]
    }
