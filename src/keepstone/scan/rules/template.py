"""Rules for chat templates: in GGUF, in tokenizer configurations, in files of their own."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "template.escape",
        CRITICAL,
        FLAGGED,
        "A chat template reaches for the internals of Python, or computes the name of what it"
        " reaches for: rendered without a sandbox it runs code.",
    ),
    Rule(
        "template.exhausts",
        MEDIUM,
        FLAGGED,
        "A chat template counts or multiplies to a size that no prompt needs.",
    ),
    Rule(
        "template.loads",
        HIGH,
        FLAGGED,
        "A chat template imports or includes another template, or dumps its context.",
    ),
    Rule(
        "template.unknown",
        MEDIUM,
        OPEN,
        "A chat template cannot be read, or uses a filter or test that Jinja does not have.",
    ),
)
