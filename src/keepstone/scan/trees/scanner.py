"""Models of trees in binary formats: UBJSON and CatBoost's own."""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.text.config import config_findings
from keepstone.scan.trees.jsons import tree_model_findings
from keepstone.scan.trees.ubjson import UbjsonError, UbjsonLimitError, read_ubjson
from keepstone.scan.view import View

# Values take some ten times their bytes while they are looked at.
MAX_UBJSON = 256 << 20


def scan_ubjson(view: View) -> Iterator[Finding]:
    """XGBoost's default format since 2.1, or any other value in UBJSON."""
    if len(view.data) > MAX_UBJSON:
        yield view.unseen("The UBJSON is larger than the limit.")
        return
    try:
        value, repeated = read_ubjson(view.data)
    except UbjsonLimitError as error:
        yield view.unseen(f"The UBJSON cannot be read: {error}.")
        return
    except UbjsonError as error:
        yield view.finding("trees.inconsistent", f"The UBJSON cannot be read: {error}.")
        return
    for key in sorted(set(repeated))[:10]:
        yield view.finding("config.ambiguous", f"The key {printable(key, 60)} comes twice.")
    found = tree_model_findings(view, value)
    if found is None:
        yield view.unseen("The UBJSON is no model known here.")
        yield from config_findings(view, value)
    else:
        yield from found


def scan_xgboost_binary(view: View) -> Iterator[Finding]:
    """XGBoost's old binary format, which version 3.1 no longer reads."""
    yield view.unseen("XGBoost's old binary format is not judged; save the model as JSON.")
