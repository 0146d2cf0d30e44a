"""When two names are one package, by each ecosystem's rule."""

from __future__ import annotations

import re

_RUNS = re.compile(r"[-_.]+")


def normal_pypi(name: str) -> str:
    """PEP 503: case does not count, nor which of `-`, `_`, `.` stands or how often."""
    return _RUNS.sub("-", name).lower()


def base_of(ecosystem: str) -> str:
    """`Debian` of `Debian:12`."""
    return ecosystem.partition(":")[0]


def normal_name(ecosystem: str, name: str) -> str:
    """The name as advisories of the ecosystem are found by."""
    return normal_pypi(name) if base_of(ecosystem) == "PyPI" else name


def normal_ecosystem(ecosystem: str) -> str:
    """`Ubuntu:22.04` and `Ubuntu:22.04:LTS` are one release."""
    if ecosystem.startswith("Ubuntu:"):
        return ecosystem.removesuffix(":LTS")
    return ecosystem
