"""Package URLs, held against the reference implementation."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.governance.purl import package_url
from keepstone.scan.packages.package import Package

# The reference implementation trims white space from what it reads.
_TEXT = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="/"), min_size=1, max_size=12
)


@pytest.mark.parametrize(
    ("ecosystem", "name", "version", "expected"),
    [
        ("PyPI", "Foo_Bar", "1!2.0+local", "pkg:pypi/foo-bar@1%212.0%2Blocal"),
        ("npm", "@scope/name", "1.0.0", "pkg:npm/%40scope/name@1.0.0"),
        ("Debian:12", "libstdc++6", "1:2~", "pkg:deb/debian/libstdc%2B%2B6@1:2~?distro=debian-12"),
        ("Alpine:v3.19", "musl", "1.2-r0", "pkg:apk/alpine/musl@1.2-r0?distro=alpine-v3.19"),
        ("Debian", "libc6", "", "pkg:deb/debian/libc6"),
        ("Other", "a/b", "1", "pkg:generic/Other/a%2Fb@1"),
    ],
)
def test_a_package_has_one_url(ecosystem: str, name: str, version: str, expected: str) -> None:
    assert package_url(Package(ecosystem, name, version, "p")) == expected


@given(name=_TEXT, version=_TEXT)
def test_the_reference_implementation_reads_back_what_was_meant(name: str, version: str) -> None:
    from packageurl import PackageURL

    read = PackageURL.from_string(package_url(Package("Other", name, version, "p")))
    assert (read.namespace, read.name, read.version) == ("Other", name, version)


def test_the_reference_implementation_is_there(need_module: Callable[[str], ModuleType]) -> None:
    """Else the property above would not be tested where it matters."""
    assert need_module("packageurl")
