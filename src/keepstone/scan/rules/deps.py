"""Rules for the packages that a project, an environment or an image names."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, LOW, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "deps.malicious",
        CRITICAL,
        FLAGGED,
        "An advisory says that the package itself is an attack.",
    ),
    Rule(
        "deps.not_evaluated",
        LOW,
        OPEN,
        "Nothing can be said about the package or the list of packages; the message says why.",
    ),
    Rule(
        "deps.unknown_severity",
        MEDIUM,
        FLAGGED,
        "The package has a known vulnerability, and nobody says how grave it is.",
    ),
    Rule(
        "deps.vulnerable",
        HIGH,
        FLAGGED,
        "The package has a known vulnerability. The finding has the advisory's own severity.",
    ),
)
