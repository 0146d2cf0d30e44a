"""Answers that say no: RFC 9457 problem details with stable codes, made once and sent as bytes.

A problem never holds what an exception said, a path, an address or a version. Only refusals of
a request's content carry a detail, which the codec wrote about the request itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from keepstone.errors import InputError

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal: HTTP status, stable code, the body and headers to send."""

    status: int
    code: str
    body: bytes
    headers: Headers

    def with_headers(self, *extra: tuple[bytes, bytes]) -> Problem:
        return Problem(self.status, self.code, self.body, [*self.headers, *extra])


def problem(status: int, code: str, title: str, detail: str = "", next_step: str = "") -> Problem:
    """Make a problem. `detail` is a sentence that whoever asks may read."""
    plain: dict[str, object] = {
        "type": f"urn:keepstone:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        # What the Open Inference Protocol calls it; its clients read nothing else.
        "error": f"{code}: {(detail or title)[:512]}",
    }
    if detail:
        plain["detail"] = detail[:512]
    if next_step:
        plain["next_step"] = next_step[:512]
    body = json.dumps(plain, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"cache-control", b"no-store"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="keepstone"'))
    return Problem(status, code, body, headers)


# Every code that the gateway answers of itself; docs/explain/gateway.md lists the same.
_TABLE: tuple[tuple[int, str, str, str], ...] = (
    (400, "request.bad_http", "The request is not HTTP/1.1 as this server accepts it.", ""),
    (400, "request.bad_header", "A header is repeated or cannot be read.", ""),
    (400, "request.incomplete", "The body ended before it was complete.", ""),
    (
        401,
        "auth.missing",
        "No credential was sent.",
        "Send `Authorization: Bearer <key or token>` or `X-API-Key: <key>`.",
    ),
    (401, "auth.rejected", "The credential is not one that is known.", ""),
    (401, "auth.expired", "The credential has expired.", "Ask for a new one."),
    (401, "auth.revoked", "The credential was revoked.", "Ask for a new one."),
    (401, "auth.not_yet_valid", "The credential is not valid yet.", ""),
    (
        403,
        "policy.denied",
        "The policy does not allow this.",
        "`keepstone policy explain` says what would change that.",
    ),
    (403, "model.revoked", "The model was revoked.", "See `keepstone policy explain`."),
    (404, "route.unknown", "There is nothing here.", "See /openapi.json."),
    (405, "route.method", "The method is not allowed here.", "See /openapi.json."),
    (408, "request.timeout", "The request took too long to arrive.", ""),
    (413, "request.too_large", "The body is larger than the policy allows.", ""),
    (415, "request.encoding", "A content encoding is not supported here.", "Send it plain."),
    (429, "limit.address", "Too many requests from this address.", "Wait, then try again."),
    (429, "limit.principal", "Too many requests by this principal.", "Wait, then try again."),
    (431, "request.headers_too_large", "The headers are too large.", ""),
    (500, "model.failed", "The model could not compute an answer.", ""),
    (500, "model.not_finite", "The model's answer holds a NaN or an infinity.", ""),
    (500, "model.bad_output", "The model's answer is not as its contract says.", ""),
    (500, "internal.error", "Something went wrong here, not with the request.", ""),
    (503, "model.not_admitted", "The model has no valid admission.", "See `keepstone doctor`."),
    (503, "audit.backlog", "The audit trail cannot keep up.", "Try again."),
    (503, "audit.unavailable", "The audit trail cannot be written.", "See `keepstone doctor`."),
    (503, "server.busy", "Too much is under way.", "Try again."),
)
PROBLEMS: dict[str, Problem] = {
    code: problem(status, code, title, next_step=step) for status, code, title, step in _TABLE
}
for _code in ("audit.backlog", "server.busy"):
    PROBLEMS[_code] = PROBLEMS[_code].with_headers((b"retry-after", b"1"))

_AUTH = frozenset({"auth.missing", "auth.expired", "auth.revoked", "auth.not_yet_valid"})


def authentication_problem(code: str) -> Problem:
    """Unknown, wrong and malformed credentials read alike; so does whatever is not named here."""
    return PROBLEMS[code if code in _AUTH else "auth.rejected"]


def limit_problem(code: str, wait: float) -> Problem:
    """A 429 that says, in whole seconds, when a token will be there."""
    seconds = min(3600, int(wait) + 1)
    return PROBLEMS[code].with_headers((b"retry-after", str(seconds).encode("ascii")))


def request_problem(error: InputError) -> Problem:
    """A 400 for what the request itself says; the detail is the codec's sentence about it."""
    return problem(400, error.code, "The request cannot be used.", error.cause, error.next_step)
