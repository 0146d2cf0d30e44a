"""Rules for TensorFlow's graphs and TFLite."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "tf.ambiguous",
        HIGH,
        FLAGGED,
        "The file repeats what may come once, or names one thing twice: readers differ in what"
        " it means.",
    ),
    Rule(
        "tf.host_operator",
        CRITICAL,
        FLAGGED,
        "An operator of the graph reaches out of it: files, the network, Python, other programs.",
    ),
    Rule(
        "tf.malformed",
        MEDIUM,
        FLAGGED,
        "The file begins as a graph of TensorFlow and breaks off or breaks its format.",
    ),
    Rule(
        "tf.path",
        HIGH,
        FLAGGED,
        "The model reads or writes a file outside of its own folder.",
    ),
    Rule(
        "tf.too_large",
        MEDIUM,
        OPEN,
        "The file holds more than the scanner's limits.",
    ),
    Rule(
        "tf.unknown_field",
        MEDIUM,
        OPEN,
        "The file has fields that no version of TensorFlow known here defines.",
    ),
    Rule(
        "tf.unknown_operator",
        MEDIUM,
        FLAGGED,
        "An operator of the graph is not on the list of those that only compute: it needs a library"
        " of its own, or does more than that.",
    ),
    Rule(
        "tflite.custom_operator",
        MEDIUM,
        FLAGGED,
        "An operator of the model is a custom one: code from elsewhere computes it.",
    ),
    Rule(
        "tflite.host_operator",
        CRITICAL,
        FLAGGED,
        "An operator of the model is one of TensorFlow's that reaches out of the graph.",
    ),
    Rule(
        "tflite.hidden",
        MEDIUM,
        FLAGGED,
        "The file holds bytes that are no part of the model.",
    ),
    Rule(
        "tflite.malformed",
        MEDIUM,
        FLAGGED,
        "A part of the model lies outside of the file, or breaks the format.",
    ),
    Rule(
        "tflite.too_large",
        MEDIUM,
        OPEN,
        "The model holds more than the scanner's limits.",
    ),
    Rule(
        "tflite.unknown",
        MEDIUM,
        OPEN,
        "The model has a version or an operator that is not known here.",
    ),
)
