"""From a layer's descriptor to what it holds: nothing counts before its blob was verified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from keepstone.errors import KeepstoneError
from keepstone.scan.images.blobs import Blobs, verified_chunks
from keepstone.scan.images.content import ContentLook
from keepstone.scan.images.descriptor import LAYERS, Descriptor
from keepstone.scan.images.found import LayerReport
from keepstone.scan.images.layer import Layer, read_layer
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.select import rule_of
from keepstone.scan.images.unpack import LayerStream
from keepstone.scan.rules import printable


@dataclass(slots=True)
class LayerReader:
    """Reads the layers of one image, the lowest first. `entries` are those so far."""

    blobs: Blobs
    limits: Limits
    look: ContentLook
    entries: int = 0

    def read(self, index: int, said: Descriptor, told: str) -> tuple[Layer, LayerReport]:
        """The layer that `said` describes, empty where it cannot be believed or read.

        `told` is what the configuration says that it unpacks to.
        """
        layer, real, unpacked = Layer(index), "", 0
        if reason := _unreadable(said):
            layer.say("image.not_evaluated", f"The layer was not read: {reason}", "")
        else:
            layer, real, unpacked = self._whole(index, said, told)
        self.entries += len(layer.entries)
        whole = not any(seen.finding.rule == "image.not_evaluated" for seen in layer.seen)
        digest = said.digest or real
        report = LayerReport(
            digest, real, said.media_type, said.size, unpacked, whole and bool(real)
        )
        return layer, report

    def _whole(self, index: int, said: Descriptor, told: str) -> tuple[Layer, str, int]:
        layer, stream, real = Layer(index), None, ""
        with closing(verified_chunks(self.blobs, said)) as pieces:
            try:
                stream = LayerStream(pieces, self.limits)
                found = read_layer(stream, index, self.look, self.limits, self.entries)
                real, layer = stream.finish(), found
            except KeepstoneError as error:
                rule, reason = _why(error, pieces)
                layer.say(rule, f"The layer was not read: {reason}", "")
        if real and not told.startswith("sha256:"):
            layer.say("image.not_evaluated", "No SHA-256 says what the layer holds.", "")
        elif real and real != told:
            why = "The layer does not hold what the configuration says: another, or out of order."
            layer.say("image.blob_differs", why, "")
        expected = LAYERS.get(said.media_type)
        if stream is not None and expected and stream.kind != expected:
            layer.say("image.ambiguous", "The layer is packed in another way than it says.", "")
        return layer, real, stream.unpacked if stream else 0


def _why(error: KeepstoneError, pieces: Iterator[bytes]) -> tuple[str, str]:
    """The rule and the reason of a layer that was not read to its end.

    What cannot be unpacked may be the wrong blob: then that is the reason.
    """
    if error.code == "image.layer_broken":
        try:
            for _ in pieces:
                pass
        except KeepstoneError as other:
            error = other
    return rule_of(error), error.cause


def _unreadable(said: Descriptor) -> str:
    """Why a layer of this kind is not read; nothing where it is."""
    kind = said.media_type
    if kind.endswith("+encrypted") or ".encrypted" in kind:
        return "It is encrypted."
    if said.urls or "nondistributable" in kind or ".foreign." in kind:
        return "It is not part of the image, but fetched from elsewhere."
    if kind not in LAYERS:
        return f"Its type {printable(kind)} is not known."
    return ""
