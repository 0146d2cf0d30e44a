"""What known vulnerabilities mean here: who waived what, and what other scanners said."""
