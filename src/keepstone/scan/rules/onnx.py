"""Rules for ONNX."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "onnx.ambiguous",
        HIGH,
        FLAGGED,
        "The file repeats what may come once, or names one thing twice: readers differ in what"
        " it means.",
    ),
    Rule(
        "onnx.custom_domain",
        MEDIUM,
        FLAGGED,
        "A node's operator comes from a domain that ONNX and onnxruntime do not define: it needs"
        " code from elsewhere.",
    ),
    Rule(
        "onnx.external_data",
        HIGH,
        FLAGGED,
        "A tensor's data lies in a file that is not beside the model, behind a link, or beyond the"
        " end of it.",
    ),
    Rule(
        "onnx.external_missing",
        MEDIUM,
        OPEN,
        "A tensor's data lies in another file, and the model is itself a part of one.",
    ),
    Rule(
        "onnx.constant_bomb",
        HIGH,
        FLAGGED,
        "An operator makes a tensor of more than two thousand million elements out of constants.",
    ),
    Rule(
        "onnx.function_bomb",
        HIGH,
        FLAGGED,
        "A function calls itself, or a few functions unfold into more than a million nodes.",
    ),
    Rule(
        "onnx.function_shadow",
        HIGH,
        FLAGGED,
        "A function of the model has the name space of the standard operators.",
    ),
    Rule(
        "onnx.host_operator",
        CRITICAL,
        FLAGGED,
        "An operator reaches out of the model: it opens other files or calls code of the host.",
    ),
    Rule(
        "onnx.invalid",
        MEDIUM,
        FLAGGED,
        "onnxruntime refuses the model.",
    ),
    Rule(
        "onnx.malformed",
        MEDIUM,
        FLAGGED,
        "The file begins as ONNX and breaks off or breaks its format.",
    ),
    Rule(
        "onnx.reader_mismatch",
        HIGH,
        FLAGGED,
        "onnxruntime sees other inputs or outputs than the scanner.",
    ),
    Rule(
        "onnx.too_deep",
        MEDIUM,
        OPEN,
        "Graphs are nested deeper than the scanner follows.",
    ),
    Rule(
        "onnx.too_large",
        MEDIUM,
        OPEN,
        "The file holds more than the scanner's limits, or would unfold to more.",
    ),
    Rule(
        "onnx.unknown_field",
        MEDIUM,
        OPEN,
        "The file has fields that no ONNX version known here defines.",
    ),
)
