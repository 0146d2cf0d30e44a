"""What S3, or the road to it, says, with a code of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keepstone.errors import KeepstoneError, OperationalError

_BUSY = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"})
_CONFLICT = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "NotFound", "404"})
_NOT_OURS = "Look at the store's settings, and at what lies between here and it."


class AbsentError(OperationalError):
    """There is no such object; whoever asked knows what that means."""


@contextmanager
def s3_errors(place: str) -> Iterator[None]:
    """Raises OperationalError `store.*`, and AbsentError."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    try:
        yield
    except exceptions.ClientError as error:
        raise _said(place, error.response) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.ProfileNotFound,
    ) as error:
        raise OperationalError(
            "store.no_credentials",
            f"There are no credentials for {place}: {str(error).rstrip('.')[:200]}.",
            "Give them as AWS's own tools take them: AWS_PROFILE, or a role of this machine.",
        ) from error
    except (
        TimeoutError,
        exceptions.ConnectTimeoutError,
        exceptions.ReadTimeoutError,
    ) as error:
        raise timed_out(place) from error
    except (exceptions.IncompleteReadError, exceptions.ResponseStreamingError) as error:
        raise truncated(place) from error
    except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
        raise OperationalError(
            "store.unreachable", f"{place} is not reached: {str(error)[:200]}.", _NOT_OURS
        ) from error
    except (exceptions.BotoCoreError, ResponseParserError, ValueError, KeyError) as error:
        raise broken(place, str(error)) from error


def _said(place: str, response: dict[str, Any]) -> Exception:
    told = response.get("Error", {})
    code = str(told.get("Code", ""))[:60]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _CONFLICT or status == 412:
        return OperationalError(
            "store.conflict",
            f"Somebody else wrote the same blob to {place} meanwhile.",
            "See that one workspace alone writes there, then do it again.",
        )
    if code in _ABSENT:
        return AbsentError("store.failed", f"{place} knows no such object ({code}).")
    if code == "NoSuchBucket":
        return OperationalError(
            "store.missing", f"There is no {place}.", "Make the bucket, or name another one."
        )
    if status in (401, 403):
        return OperationalError(
            "store.denied",
            f"{place} does not permit this ({code}).",
            "Use credentials that may do it; the documentation lists what each use needs.",
        )
    if code in _BUSY or status in (429, 503):
        return OperationalError(
            "store.busy", f"{place} is too busy to answer ({code}).", "Try again later."
        )
    return OperationalError(
        "store.failed", f"{place} answered {status} ({code}).", "Ask whoever runs the store."
    )


def timed_out(place: str) -> KeepstoneError:
    return OperationalError("store.timeout", f"{place} did not answer in time.", _NOT_OURS)


def truncated(place: str) -> KeepstoneError:
    return OperationalError("store.truncated", f"The answer of {place} is cut off.", _NOT_OURS)


def broken(place: str, why: str) -> KeepstoneError:
    return OperationalError(
        "store.broken_answer",
        f"The answer of {place} cannot be used: {why.rstrip('.')[:200]}.",
        _NOT_OURS,
    )
