"""Which images an index holds: every one, or those of a platform or a name, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.images.blobs import Blobs, read_verified
from keepstone.scan.images.descriptor import (
    ATTESTATION,
    NO_PLATFORM,
    Descriptor,
    is_platform,
    platform_name,
)
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.manifest import Index, Manifest, parse_manifest, read_document
from keepstone.scan.images.naming import CONFIG_NAMES

# How tools write the name that an image has in a layout.
NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for: a platform (`linux/arm64`), a name in a layout; all where empty."""

    platform: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class NotJudged:
    """What an index names and nobody judged as an image: which, by what rule, and why.

    Without a rule it is no image to any runtime.
    """

    digest: str
    reason: str
    rule: str = ""


@dataclass(slots=True)
class Selection:
    """Walks an index, and the indexes in it."""

    blobs: Blobs
    choice: Choice
    limits: Limits
    looked: int = 0

    def within(self, raw: bytes, said: Descriptor) -> Iterator[Manifest | NotJudged]:
        """What the document `raw`, whose bytes were verified as `said`, leads to."""
        yield from self._document(raw, said, 0, set())

    def _document(
        self, raw: bytes, said: Descriptor, depth: int, above: set[str]
    ) -> Iterator[Manifest | NotJudged]:
        try:
            found = parse_manifest(raw, said)
        except KeepstoneError as error:
            yield _not_judged(said, error)
            return
        if isinstance(found, Index):
            for problem in found.problems:
                yield NotJudged(said.shown, problem.reason, problem.rule)
            if not found.manifests:
                yield NotJudged(said.shown, "The index names no image.", "image.not_evaluated")
            for one in self._chosen(found, depth):
                yield from self._manifest(one, depth + 1, above | {said.digest})
        elif found.layers and all(layer.media_type == ATTESTATION for layer in found.layers):
            yield from self._statements(found, said)
        else:
            yield replace(found, tags=self._names(said))

    def _statements(self, found: Manifest, said: Descriptor) -> Iterator[NotJudged]:
        """What is said of a manifest whose layers call themselves statements.

        No runtime takes it for an image where it is of no platform and has no layers to a runtime.
        """
        try:
            raw = read_verified(self.blobs, found.config, self.limits.document)
            document, problems = read_document(raw, CONFIG_NAMES)
        except KeepstoneError as error:
            yield _not_judged(said, error)
            return
        for problem in (*found.problems, *problems):
            yield NotJudged(said.shown, problem.reason, problem.rule)
        if _runs_nowhere(found, document):
            yield NotJudged(said.shown, "It holds statements about an image, and no files.")
        else:
            reason = "Its layers are said to be statements, and a runtime may take it for an image."
            yield NotJudged(said.shown, reason, "image.not_evaluated")

    def _chosen(self, index: Index, depth: int) -> Iterator[Descriptor]:
        wanted = self.choice
        for one in index.manifests:
            if depth == 0 and wanted.name and wanted.name not in self._names(one):
                continue
            if wanted.platform and one.platform and not is_platform(wanted.platform, one.platform):
                continue
            yield one

    def _manifest(
        self, said: Descriptor, depth: int, above: set[str]
    ) -> Iterator[Manifest | NotJudged]:
        self.looked += 1
        reason = ""
        if said.digest in above:
            reason = "An index leads to itself."
        elif depth > self.limits.depth:
            reason = "Indexes are nested deeper than the limit."
        elif self.looked > self.limits.manifests:
            # Said once: the rest would say the same.
            reason = "There are more manifests than the limit."
            if self.looked > self.limits.manifests + 1:
                return
        if reason:
            yield NotJudged(said.shown, reason, "image.not_evaluated")
            return
        try:
            raw = read_verified(self.blobs, said, self.limits.document)
        except KeepstoneError as error:
            yield _not_judged(said, error)
            return
        yield from self._document(raw, said, depth, above)

    @staticmethod
    def _names(said: Descriptor) -> tuple[str, ...]:
        return tuple(said.annotations[key] for key in NAMES if key in said.annotations)


def _runs_nowhere(found: Manifest, config: dict[str, Any]) -> bool:
    """True where the index gives no platform and the configuration no layers.

    BuildKit names its statements as layers, but then in both places as those of no platform.
    """
    rootfs = config.get("rootfs") or {}
    listed = rootfs.get("diff_ids") if isinstance(rootfs, dict) else rootfs
    if not listed:
        return found.platform in ("", NO_PLATFORM)
    own = platform_name(config.get("os"), config.get("architecture"), config.get("variant"))
    as_built = listed == [layer.digest for layer in found.layers]
    return found.platform == own == NO_PLATFORM and as_built


def rule_of(error: KeepstoneError) -> str:
    """The rule that an error is a finding of: a blob that differs and a bomb are no mere limits."""
    if error.code in ("image.blob_differs", "oci.wrong_digest", "oci.wrong_size"):
        return "image.blob_differs"
    return "image.bomb" if error.code == "image.bomb" else "image.not_evaluated"


def _not_judged(said: Descriptor, error: KeepstoneError) -> NotJudged:
    return NotJudged(said.shown, error.cause, rule_of(error))


def nothing_chosen(choice: Choice) -> InputError:
    """Why there is no image, where some were left out."""
    what = f"the platform {choice.platform}" if choice.platform else f"the name {choice.name!r}"
    return InputError("image.none_chosen", f"There is no image for {what} here.")
