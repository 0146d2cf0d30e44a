"""Rules for secrets. `keepstone scan secrets` alone uses them."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, MEDIUM, Rule

TABLE = (
    Rule(
        "secret.assigned",
        MEDIUM,
        FLAGGED,
        "A value that looks like a secret is given to something that is called like one.",
    ),
    Rule(
        "secret.credential",
        HIGH,
        FLAGGED,
        "The file holds a password or key in a form that some program reads as one.",
    ),
    Rule(
        "secret.encrypted_key",
        MEDIUM,
        FLAGGED,
        "The file holds a private key under a passphrase.",
    ),
    Rule(
        "secret.private_key",
        CRITICAL,
        FLAGGED,
        "The file holds a private key that nothing protects.",
    ),
    Rule(
        "secret.token",
        CRITICAL,
        FLAGGED,
        "The file holds a token of a known service, with the structure it should have.",
    ),
)
