"""Rules for container images."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, LOW, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "image.ambiguous",
        HIGH,
        FLAGGED,
        "A document or a layer of the image says two things: runtimes and scanners differ in what"
        " it is.",
    ),
    Rule(
        "image.base_by_name",
        LOW,
        FLAGGED,
        "The image names the base that it was built on without its digest: which one it was"
        " cannot be told.",
    ),
    Rule(
        "image.base_unknown",
        LOW,
        OPEN,
        "No annotation says what the image was built on; nothing else in an image can.",
    ),
    Rule(
        "image.blob_differs",
        CRITICAL,
        FLAGGED,
        "A blob does not have the digest or the size that the image gives for it.",
    ),
    Rule(
        "image.bomb",
        HIGH,
        FLAGGED,
        "A few bytes of a layer unpack to, or claim, far more than any honest layer of its size.",
    ),
    Rule(
        "image.capability",
        MEDIUM,
        FLAGGED,
        "A program in the image has capabilities: whoever starts it gets rights of root.",
    ),
    Rule(
        "image.device",
        HIGH,
        FLAGGED,
        "The image holds a device node.",
    ),
    Rule(
        "image.link",
        HIGH,
        FLAGGED,
        "A link leads out of the image, or to something that is not in it.",
    ),
    Rule(
        "image.not_evaluated",
        LOW,
        OPEN,
        "The image, or a part of it, was not judged; the message says why.",
    ),
    Rule(
        "image.root",
        MEDIUM,
        FLAGGED,
        "The image runs as root.",
    ),
    Rule(
        "image.setuid",
        MEDIUM,
        FLAGGED,
        "A program in the image runs with the rights of its owner or group, whoever starts it.",
    ),
    Rule(
        "image.unsafe_path",
        HIGH,
        FLAGGED,
        "An entry of a layer is named, or takes away, what lies outside of the image.",
    ),
    Rule(
        "image.vulnerabilities",
        LOW,
        OPEN,
        "The image's packages were listed and not compared with known vulnerabilities.",
    ),
    Rule(
        "image.world_writable",
        MEDIUM,
        FLAGGED,
        "Everybody in the container may change a file, or put files into a folder without the"
        " sticky bit.",
    ),
)
