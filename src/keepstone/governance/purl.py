"""Package URLs: one text that names a package at one version in any ecosystem.

Source: https://github.com/package-url/purl-spec (ECMA-427), the types pypi, deb, apk and npm.
"""

from __future__ import annotations

from urllib.parse import quote

from keepstone.scan.packages.package import Package

# What the specification leaves as it is, besides letters and digits; a colon too.
_PLAIN = ".-_~:"
_DISTRIBUTIONS = {"debian": "deb", "ubuntu": "deb", "alpine": "apk"}


def package_url(package: Package) -> str:
    """The purl of `package`; one of an ecosystem without a type of its own is `generic`."""
    ecosystem, _, release = package.ecosystem.partition(":")
    kind = ecosystem.casefold()
    version = f"@{_coded(package.version)}" if package.version else ""
    if kind == "pypi":
        return f"pkg:pypi/{_coded(package.name.lower().replace('_', '-'))}{version}"
    if kind == "npm":
        scope, slash, name = package.name.rpartition("/")
        inside = f"{_coded(scope)}/" if slash else ""
        return f"pkg:npm/{inside}{_coded(name)}{version}"
    if kind in _DISTRIBUTIONS:
        distro = f"?distro={_coded(f'{kind}-{release}')}" if release else ""
        name = _coded(package.name.lower())
        return f"pkg:{_DISTRIBUTIONS[kind]}/{kind}/{name}{version}{distro}"
    return f"pkg:generic/{_coded(package.ecosystem)}/{_coded(package.name)}{version}"


def _coded(text: str) -> str:
    # A name read from a disk may hold half a surrogate pair.
    return quote(text, safe=_PLAIN, errors="surrogatepass")
