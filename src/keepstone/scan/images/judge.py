"""Judge images: each layer once, then all of them as one, then the configuration.

Promise: nothing of an image is run or unpacked to disk, and an image is clean only where every
blob of it was verified and read to its end. What could not be is *not evaluated*, with the reason;
the rest is judged all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol

from keepstone.core.finding import Finding
from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.images.blobs import Blobs, read_verified
from keepstone.scan.images.config import (
    Config,
    base_problem,
    parse_config,
    setting_secrets,
    user_problem,
)
from keepstone.scan.images.content import ContentLook
from keepstone.scan.images.descriptor import CONFIGS, is_platform
from keepstone.scan.images.found import (
    ImageFinding,
    ImageReport,
    ImagesReport,
    LayerReport,
    of_image,
)
from keepstone.scan.images.layer import Layer, Seen, shown
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.manifest import Manifest, Problem
from keepstone.scan.images.merge import Merged
from keepstone.scan.images.packages import PackageCheck, Packages, names_packages
from keepstone.scan.images.reading import LayerReader
from keepstone.scan.images.select import Choice, NotJudged, nothing_chosen, rule_of
from keepstone.scan.images.tree import LayerTree
from keepstone.scan.images.view import mark_live, view_findings
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.rules import MAX_FINDINGS, printable

_USERS = "etc/passwd"
# So many files are named where more are meant.
_NAMED = 5
# Where a finding lies that is about no file.
MANIFEST, CONFIG = "(manifest)", "(configuration)"

# Called with what is looked at next.
Observer = Callable[[str], None]


class Store(Blobs, Protocol):
    """Where images are, and which."""

    def images(self, choice: Choice, limits: Limits) -> Iterator[Manifest | NotJudged]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a scan of images looks for, and within which limits.

    Without `base` nobody asks what an image was built on.
    """

    packages: PackageCheck
    choice: Choice = field(default_factory=Choice)
    limits: Limits = field(default_factory=Limits)
    base: bool = True
    allowed: tuple[Added, ...] = ()
    observer: Observer = lambda _: None


def scan_images(store: Store, reference: str, asked: Asked) -> ImagesReport:
    """The verdict on every image of `store` that was asked for.

    Raises InputError where there is no image to read, and `image.none_chosen` where there are
    some, but none of the platform or name that was asked for.
    """
    images, findings, skipped = [], [], []
    left_out = False
    for item in store.images(asked.choice, asked.limits):
        if isinstance(item, Manifest):
            report = _Image(store, item, asked).report()
            if report is None:
                left_out = True
            else:
                images.append(report)
        elif item.rule:
            findings.append(of_image(item.rule, item.reason, printable(item.digest, 200)))
        else:
            skipped.append((printable(item.digest, 200), item.reason))
    asked_for_one = asked.choice.platform or asked.choice.name
    if not images and not findings and (left_out or asked_for_one):
        raise nothing_chosen(asked.choice)
    if not images and not findings:
        findings.append(of_image("image.not_evaluated", "There is no image here.", MANIFEST))
    return ImagesReport(printable(reference, 4096), tuple(images), tuple(findings), tuple(skipped))


@dataclass(slots=True)
class _Image:
    """One image, while it is judged."""

    blobs: Blobs
    manifest: Manifest
    asked: Asked
    found: list[ImageFinding] = field(default_factory=list)
    layers: list[LayerReport] = field(default_factory=list)
    read: list[Layer] = field(default_factory=list)
    packages: Packages = field(default_factory=Packages)

    def report(self) -> ImageReport | None:
        """The verdict; None where the configuration is of another platform than was asked for."""
        asked, manifest = self.asked, self.manifest
        for problem in manifest.problems:
            self._say(problem.rule, problem.reason, MANIFEST)
        digest, config = self._config()
        # Where an index says a platform, images were chosen by that.
        wanted = "" if manifest.platform else asked.choice.platform
        if config is not None and wanted and not is_platform(wanted, config.platform):
            return None
        if config is not None:
            asked.observer(f"{digest} {config.platform}")
            self._judge(config)
        return ImageReport(
            manifest.digest,
            digest,
            config.platform if config else manifest.platform,
            tuple(printable(tag, 200) for tag in manifest.tags),
            tuple(self.layers),
            self.packages,
            tuple(self.found),
        )

    def _say(self, rule: str, reason: str, where: str) -> None:
        self.found.append(of_image(rule, reason, where))

    def _config(self) -> tuple[str, Config | None]:
        said = self.manifest.config
        if said.media_type not in CONFIGS and said.media_type:
            kind = printable(said.media_type)
            self._say(
                "image.not_evaluated", f"It is no image, but an artifact of {kind}.", MANIFEST
            )
            return said.digest, None
        try:
            raw = read_verified(self.blobs, said, self.asked.limits.document)
            config = parse_config(raw, self.asked.limits)
        except KeepstoneError as error:
            self._say(rule_of(error), error.cause, CONFIG)
            return said.digest, None
        for problem in config.problems:
            self._say(problem.rule, problem.reason, CONFIG)
        known = self.manifest.platform
        if (
            known
            and not is_platform(config.platform, known)
            and not is_platform(known, config.platform)
        ):
            reason = "The index gives the image another platform than it gives itself."
            self._say("image.ambiguous", reason, CONFIG)
        return said.digest or f"sha256:{hashlib.sha256(raw).hexdigest()}", config

    def _judge(self, config: Config) -> None:
        limits = self.asked.limits
        look = ContentLook(limits, self._wanted, self.asked.allowed)
        # What is kept of one image is let go before the next.
        room = limits.kept
        self._layers(config, look)
        limits.kept = room
        merged = self._merge()
        self._seen(look)
        self._bounded(
            self._placed(Seen(item, entry), entry.layer) for item, entry in view_findings(merged)
        )
        tree = LayerTree(merged, look.kept, self.blobs, self.manifest.layers, limits)
        self._settings(config, tree)
        self._packages(tree)

    def _wanted(self, path: str) -> bool:
        return path == _USERS or names_packages(path)

    def _layers(self, config: Config, look: ContentLook) -> None:
        layers, most = self.manifest.layers, self.asked.limits.layers
        if len(layers) != len(config.diff_ids):
            reason = f"{len(layers)} layers, where the configuration has {len(config.diff_ids)}."
            self._say("image.blob_differs", f"The manifest names {reason}", MANIFEST)
        if len(layers) > most:
            reason = f"The image has {len(layers)} layers; {most} were looked at."
            self._say("image.not_evaluated", reason, MANIFEST)
        reader = LayerReader(self.blobs, self.asked.limits, look)
        for index, layer in enumerate(layers[:most]):
            self.asked.observer(f"layer {index + 1} of {len(layers)}, {layer.shown}")
            told = config.diff_ids[index] if index < len(config.diff_ids) else ""
            read, report = reader.read(index, layer, told)
            self.read.append(read)
            self.layers.append(report)

    def _merge(self) -> Merged:
        """Lay the layers over one another, as far as the limits go."""
        merged = Merged()
        try:
            for layer in self.read:
                for one in merged.lay(layer.entries):
                    layer.say(one.rule, one.reason, shown(one.entry.path), one.entry)
        except KeepstoneError as error:
            self._say(rule_of(error), error.cause, MANIFEST)
            # Nobody knows what is left of them.
            for entry in (entry for layer in self.read for entry in layer.entries):
                entry.live = True
        mark_live(merged)
        return merged

    def _seen(self, look: ContentLook) -> None:
        for layer in self.read:
            self.found += (self._placed(seen, layer.index) for seen in layer.seen)
            if layer.more:
                reason = f"Layer {layer.index + 1} has {layer.more} more findings."
                self._say("image.not_evaluated", reason, MANIFEST)
        for reason, entries in look.unread.items():
            named = ", ".join(shown(entry.path) for entry in entries[:_NAMED])
            why = f"Secrets were not looked for in all of {len(entries)} files ({named}): {reason}"
            self._say("image.not_evaluated", why, MANIFEST)

    def _packages(self, tree: LayerTree) -> None:
        self.packages = self.asked.packages.judge(tree)
        self._bounded(map(partial(self._of_package, tree), self.packages.findings))
        self._bounded(
            of_image("image.not_evaluated", item.reason, item.path or MANIFEST)
            for item in tree.left_out
        )

    def _of_package(self, tree: LayerTree, item: Finding) -> ImageFinding:
        entry = tree.merged.find(item.location.path)
        return ImageFinding(item) if entry is None else self._placed(Seen(item), entry.layer)

    def _bounded(self, found: Iterator[ImageFinding]) -> None:
        self.found += islice(found, MAX_FINDINGS)
        if (more := sum(1 for _ in found)) > 0:
            self._say("image.not_evaluated", f"There are {more} more findings.", MANIFEST)

    def _placed(self, seen: Seen, index: int) -> ImageFinding:
        entry = seen.entry
        deleted = entry is not None and entry.placed and not entry.live
        return ImageFinding(seen.finding, self.layers[index].digest, index + 1, deleted)

    def _settings(self, config: Config, tree: LayerTree) -> None:
        if (user := self._user(config, tree)) is not None:
            self._say(user.rule, user.reason, CONFIG)
        if self.asked.base:
            base = base_problem(self.manifest.annotations, config.labels)
            if base is not None:
                self._say(base.rule, base.reason, MANIFEST)
        self.found += map(ImageFinding, setting_secrets(config))

    def _user(self, config: Config, tree: LayerTree) -> Problem | None:
        if config.platform.startswith("windows/"):
            return Problem("image.not_evaluated", "The users and rights of Windows are not judged.")
        try:
            passwd = tree.read(_USERS, self.asked.limits.document)
        except InputError:
            # Whoever it names is then unknown, and said to be.
            passwd = None
        return user_problem(config.user, passwd)
