"""What a scan of images found: each finding with the layer that it lies in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.core.finding import Finding, Outcome, worst
from keepstone.scan.images.packages import Packages
from keepstone.scan.rules import RULES, finding


@dataclass(frozen=True, slots=True)
class ImageFinding:
    """A finding, the digest of its layer, and its number, counted from one; none of the image.

    `deleted` is true where a later layer replaced or deleted the file. It is still in the image.
    """

    finding: Finding
    layer: str = ""
    number: int = 0
    deleted: bool = False

    @property
    def outcome(self) -> Outcome:
        return RULES[self.finding.rule].outcome


@dataclass(frozen=True, slots=True)
class LayerReport:
    """A layer of an image. `evaluated` is false where a part of it was not judged."""

    digest: str
    diff_id: str
    media_type: str
    size: int
    unpacked: int
    evaluated: bool


@dataclass(frozen=True, slots=True)
class ImageReport:
    """The verdict on one image. `digest` is its manifest's; empty in a docker archive."""

    digest: str
    config: str
    platform: str
    tags: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    packages: Packages
    findings: tuple[ImageFinding, ...]

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.findings)


@dataclass(frozen=True, slots=True)
class ImagesReport:
    """The verdict on what a reference named: images, and findings about none of them.

    `skipped` are documents that no runtime takes for an image: digest and reason.
    """

    reference: str
    images: tuple[ImageReport, ...]
    findings: tuple[ImageFinding, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Flagged beats not evaluated beats clean; no image at all is not evaluated."""
        found = [image.outcome for image in self.images] or [Outcome.NOT_EVALUATED]
        return worst([*found, *((outcome_of(self.findings),) if self.findings else ())])


def outcome_of(findings: Iterable[ImageFinding]) -> Outcome:
    found = [item.outcome for item in findings]
    return worst(found) if found else Outcome.CLEAN


def of_image(rule: str, reason: str, where: str) -> ImageFinding:
    """A finding about the image itself, or a document of it."""
    return ImageFinding(finding(rule, reason, where))
