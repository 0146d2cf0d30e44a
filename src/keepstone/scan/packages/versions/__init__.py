"""How each ecosystem puts versions in order, as its owner defines it. One file per rule."""

from __future__ import annotations

from collections.abc import Mapping

from keepstone.scan.packages.names import base_of
from keepstone.scan.packages.versions.apk import compare_apk
from keepstone.scan.packages.versions.dpkg import compare_dpkg
from keepstone.scan.packages.versions.order import Order, UnorderableError
from keepstone.scan.packages.versions.pep440 import compare_pep440
from keepstone.scan.packages.versions.semver import compare_semver

_ORDERS: Mapping[str, Order] = {
    "Debian": compare_dpkg,
    "Ubuntu": compare_dpkg,
    "Alpine": compare_apk,
    "Chainguard": compare_apk,
    "Wolfi": compare_apk,
    "PyPI": compare_pep440,
    "npm": compare_semver,
}


def order_of(ecosystem: str) -> Order | None:
    """The rule of an ecosystem, with or without a release; None where we have none."""
    return _ORDERS.get(base_of(ecosystem))


__all__ = ["Order", "UnorderableError", "compare_semver", "order_of"]
