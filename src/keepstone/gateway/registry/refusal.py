"""The registry's errors as HTTP answers: which status, and what of the cause may be told."""

from __future__ import annotations

from keepstone.errors import (
    DeniedError,
    InputError,
    KeepstoneError,
    OperationalError,
    VerificationError,
)
from keepstone.gateway.problem import PROBLEMS, Problem, problem

# What says nothing but what its asker gave or may see. Everything else keeps its cause inside.
_TOLD = (
    *("registry.", "gate.", "name.", "reference.", "digest.", "request.", "carry.", "contract."),
    *("statement.", "signature."),
)
_TOLD_CODES = frozenset({"policy.denied", "scan.flagged", "scan.not_evaluated"})
_STATUS = {
    "registry.not_found": 404,
    "registry.inconsistent": 409,
    "registry.known_statement": 409,
}
_FAMILIES: tuple[tuple[type[KeepstoneError], int, str], ...] = (
    (InputError, 400, "The request cannot be used."),
    (DeniedError, 403, "That is not allowed."),
    (VerificationError, 422, "What was sent, or what is stored, does not verify."),
    (OperationalError, 503, "The registry could not do it."),
)


def refusal(error: KeepstoneError) -> Problem:
    """The answer to a request that failed with `error`."""
    known = PROBLEMS.get(error.code)
    if known is not None and error.code != "policy.denied":
        return known
    status, title = next(
        (status, title) for family, status, title in _FAMILIES if isinstance(error, family)
    )
    told = error.code.startswith(_TOLD) or error.code in _TOLD_CODES
    return problem(
        _STATUS.get(error.code, status),
        error.code,
        title,
        error.cause if told else "",
        error.next_step if told else "",
    )
