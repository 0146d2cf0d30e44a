"""XGBoost's model files under one name, whichever of their two forms they have."""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.core.finding import Finding
from keepstone.scan.text.scanner import scan_text
from keepstone.scan.trees.scanner import scan_ubjson
from keepstone.scan.view import View


def scan_xgboost(view: View) -> Iterator[Finding]:
    """Judge JSON as every text is judged, and UBJSON by its own reader."""
    yield from scan_ubjson(view) if bytes(view.data[:2]) == b"{L" else scan_text(view)
