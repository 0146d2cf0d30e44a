"""Models of trees in JSON, told by what their readers ask for first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.trees.catboost_json import catboost_json_findings, is_catboost
from keepstone.scan.trees.xgboost import is_xgboost, xgboost_findings
from keepstone.scan.view import View


def tree_model_findings(view: View, value: Any) -> Iterator[Finding] | None:
    """The findings of the reader whose model this is, or None where it is nobody's."""
    if not isinstance(value, Mapping):
        return None
    if is_xgboost(value):
        return xgboost_findings(view, value)
    if is_catboost(value):
        return catboost_json_findings(view, value)
    return None
