"""Lists of packages that judge nothing: Syft's own JSON, and CycloneDX.

Alone they are *not evaluated*. With a database of ours, their packages are held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keepstone.core.finding import Severity
from keepstone.evidence.made import Tool
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.inventory import MAX_PACKAGES, Inventory
from keepstone.scan.packages.package import Package
from keepstone.scan.rules import printable
from keepstone.scan.vulnerabilities.examined import Examined, Known
from keepstone.scan.vulnerabilities.outside import Outside, major_of, newer, severity_of
from keepstone.scan.vulnerabilities.purl import PurlError, ecosystem_of, read_purl

# Syft 0.62 to 1.x; the members that are read have been the same in these.
_SYFT_OLDEST, _SYFT_NEWEST = 6, 16
_CYCLONEDX_MAJOR = 1
# Components of these types are packages, and so is any that has a package URL. An operating system,
# an image, an application or a file without one is what packages are in.
_PACKAGES = frozenset({"library", "framework"})
# Where Trivy writes the source package.
_SOURCE_NAME, _SOURCE_VERSION = "aquasecurity:trivy:SrcName", "aquasecurity:trivy:SrcVersion"


@dataclass(frozen=True, slots=True)
class Bom:
    """The packages of a list, what in it names none, and what it says is known of them."""

    tool: Tool
    target: str
    inventory: Inventory
    known: tuple[Known, ...] = ()
    time: int | None = None

    @property
    def names(self) -> frozenset[tuple[str, str]]:
        return frozenset((one.name, one.version) for one in self.inventory.packages)

    def unjudged(self) -> Examined:
        """As a report: nothing was judged, but for what it calls vulnerable itself."""
        return Examined(
            scanner=self.tool,
            target=self.target,
            packages=len(self.names),
            known=self.known,
            database=None,
            open=("A list of packages judges nothing.",),
            time=self.time,
        )


def read_syft(value: Mapping[str, Any]) -> Bom:
    """Raises InputError `report.malformed`, `report.newer_version`."""
    top = Outside(value, "Syft report")
    descriptor = top.part("descriptor")
    if descriptor.exactly("name", 64) != "syft":
        raise descriptor.fault("name", "is not syft")
    schema = top.part("schema")
    version = schema.exactly("version", 64)
    major = major_of(version)
    if major is None or major < _SYFT_OLDEST:
        raise schema.fault("version", f"is not one from {_SYFT_OLDEST} to {_SYFT_NEWEST}")
    if major > _SYFT_NEWEST:
        raise newer("Syft's schema", version, f"{_SYFT_NEWEST}.x")
    source = top.part_or_none("source")
    target = "" if source is None else source.word("name", 500) or source.word("id", 500)
    artifacts = [Outside(item, "Syft artifact") for item in top.many("artifacts")]
    return Bom(
        Tool("syft", descriptor.exactly("version", 64)),
        target,
        _inventory(artifacts, lambda one: _of_syft(one, target)),
    )


def _of_syft(artifact: Outside, target: str) -> Package:
    locations = [Outside(item, "Syft location") for item in artifact.many("locations")]
    path = locations[0].word("path") if locations else target
    return read_purl(artifact.word("purl", 4096), path, source_is_said=True)


def read_cyclonedx(value: Mapping[str, Any]) -> Bom:
    """Raises InputError `report.malformed`, `report.newer_version`."""
    top = Outside(value, "CycloneDX list")
    if top.exactly("bomFormat", 64) != "CycloneDX":
        raise top.fault("bomFormat", "is not CycloneDX")
    version = top.exactly("specVersion", 16)
    major = major_of(version)
    if major is None or major < _CYCLONEDX_MAJOR:
        raise top.fault("specVersion", "is not a version of CycloneDX")
    if major > _CYCLONEDX_MAJOR:
        raise newer("CycloneDX", version, f"{_CYCLONEDX_MAJOR}.x")
    metadata = top.part_or_none("metadata")
    about = None if metadata is None else metadata.part_or_none("component")
    target = "" if about is None else about.word("name", 500)
    tool = _tool(metadata)
    components = list(_components(top.many("components")))
    packages = [one for one in components if one.word("purl") or one.word("type", 64) in _PACKAGES]
    bom = _inventory(packages, lambda one: _of_cyclonedx(one, target, tool))
    return Bom(
        tool,
        target,
        bom,
        tuple(_vulnerable(top, components, target)),
        None if metadata is None else metadata.moment("timestamp"),
    )


def _components(items: list[Any], depth: int = 0) -> Iterator[Outside]:
    for item in items:
        component = Outside(item, "CycloneDX component")
        yield component
        inner = component.many("components")
        if inner and depth >= 16:
            raise component.fault("components", "is nested too deep")
        yield from _components(inner, depth + 1)


def _tool(metadata: Outside | None) -> Tool:
    """Who made the list: the first tool that it names, in the old form or the new."""
    tools = None if metadata is None else metadata.maybe("tools")
    if isinstance(tools, Mapping):
        tools = tools.get("components")
    if isinstance(tools, list) and tools:
        first = Outside(tools[0], "CycloneDX tool")
        name, version = first.word("name", 100), first.word("version", 100)
        return Tool(name or "unknown", version or "unknown")
    return Tool("unknown", "unknown")


def _of_cyclonedx(component: Outside, target: str, tool: Tool) -> Package:
    said = {
        one.word("name", 256): one.word("value", 256)
        for one in (Outside(item, "CycloneDX property") for item in component.many("properties"))
    }
    source = said.get(_SOURCE_NAME, "")
    package = read_purl(
        component.word("purl", 4096), target, source_is_said=bool(source) or tool.name == "syft"
    )
    if not source or not package.source:
        return package
    return replace(package, source=source, source_version=said.get(_SOURCE_VERSION, ""))


def _vulnerable(top: Outside, components: list[Outside], target: str) -> Iterator[Known]:
    """What the list itself calls vulnerable, which some tools write into it."""
    by_ref = {one.word("bom-ref", 2048): one for one in components}
    for item in top.many("vulnerabilities"):
        one = Outside(item, "CycloneDX vulnerability")
        ids = (one.exactly("id", 128),)
        ratings = [Outside(rating, "CycloneDX rating") for rating in one.many("ratings")]
        grades = [severity_of(rating.word("severity", 32)) for rating in ratings]
        severity = max((grade for grade in grades if grade), key=_rank, default=None)
        affected = [
            Outside(each, "CycloneDX affect").word("ref", 2048) for each in one.many("affects")
        ]
        for ref in affected or [""]:
            component = by_ref.get(ref)
            name = ref if component is None else component.word("name", 214)
            version = "" if component is None else component.word("version", 128)
            purl = "" if component is None else component.word("purl", 4096)
            ecosystem = ecosystem_of(purl, "unknown")
            yield Known(ecosystem, name or "(not named)", version, ids, severity, target)


def _rank(severity: Severity) -> int:
    return tuple(Severity).index(severity)


def _inventory(items: list[Outside], read: Callable[[Outside], Package]) -> Inventory:
    packages: set[Package] = set()
    left: set[NotJudged] = set()
    for item in items:
        name = item.word("name", 200) or "(not named)"
        try:
            packages.add(read(item))
        except PurlError as error:
            left.add(NotJudged("", f"Its package URL cannot be judged: {error}.", printable(name)))
        if len(packages) > MAX_PACKAGES:
            raise item.fault("name", f"is one of more than {MAX_PACKAGES} packages")
    return Inventory(tuple(sorted(packages)), (), tuple(sorted(left)))
