"""A registry on another machine: the same operations, asked over HTTPS, and nothing taken on trust.

    import keepstone
    registry = keepstone.connect("https://registry.example:8444", key=KEY, ca=Path("ca.pem"),
                                 gate_key=GATE_KEY_ID)
    model = registry.load("fraud@production")

What a pull brings counts only with an admission by the gate whose key was named here: for this
artifact, under this name, at the alias or stage that was asked for, now. The server can refuse
and be slow; it cannot hand out anything else, nor what was admitted longer ago than an admission
lasts.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.core.ports import Clock, SystemClock
from keepstone.core.subject import Subject
from keepstone.errors import InputError, OperationalError, VerificationError
from keepstone.evidence import predicates
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.predicates import Approval, Predicate, Revocation, Target
from keepstone.evidence.statement import make_statement, open_payload
from keepstone.identity.signing import Signatory, parse_public_pem
from keepstone.policy.admission import Admission, verify_admission
from keepstone.vault import carry
from keepstone.vault.registry.reference import Reference
from keepstone.vault.staging import Staged, stage
from keepstone.vault.unpack import taken
from keepstone.workspace.reference import LIBRARY
from keepstone.workspace.registry.answers import (
    PIECE,
    Reader,
    load_httpx,
    read_object,
    read_whole,
    refused,
    shown,
)

if TYPE_CHECKING:
    import httpx

    from keepstone.vault.load import Loaded
    from keepstone.workspace.intake import Submission

_CONNECT_S, _READ_S = 10.0, 120.0
# A push is scanned and sealed before it is answered.
_PUSH_S = 3600.0


@dataclass(frozen=True, slots=True)
class Pulled:
    """A version that arrived. `admission` is None where it was pulled to be examined only."""

    model: str
    number: int
    digest: Digest
    path: Path
    admission: Admission | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoteRegistry:
    """A registry server, and the credential to ask it with.

    `gate_key` is the id of the gate's key, from whoever runs the registry: without it nothing
    that the gate admits can be told from anything else, and `pull` refuses. `ca` holds the
    authorities that may vouch for the server; the system's, where it is None.
    """

    url: str
    key: str = field(repr=False)
    ca: Path | None = None
    gate_key: str | None = None
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        plain = parts.scheme == "http" and _is_loopback(parts.hostname)
        if (parts.scheme != "https" and not plain) or not parts.hostname or parts.path not in "/":
            raise InputError(
                "registry.bad_url",
                f"{self.url[:200]!r} is not a registry's address.",
                "Write it as https://HOST:PORT; http is for this machine alone.",
            )

    # What is JSON both ways

    def list(
        self, *, model: str | None = None, after: str | None = None, limit: int = 1000
    ) -> dict[str, Any]:
        """The versions that the credential may see; `next` is where the next page begins."""
        query = {"model": model, "after": after, "limit": str(limit)}
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", "/v1/models", query=given)

    def show(self, text: str) -> dict[str, Any]:
        """A model, or a version of it and what is known of it."""
        return self._ask("GET", _path(Reference.parse(text)))

    def diff(self, first: str, second: str) -> dict[str, Any]:
        """How two versions differ."""
        return self._ask("GET", "/v1/diff", query={"a": first, "b": second})

    def alias(self, text: str, name: str, note: str = "") -> dict[str, Any]:
        """Point an alias to a version."""
        wanted = Reference.parse(text)
        body = {"version": _version(wanted), "note": note}
        return self._ask("PUT", f"/v1/models/{wanted.name}/aliases/{quote(name)}", body)

    def remove_alias(self, model: str, name: str, note: str = "") -> dict[str, Any]:
        """Take an alias away."""
        path = f"/v1/models/{quote(model)}/aliases/{quote(name)}"
        return self._ask("DELETE", path, query={"note": note})

    def promote(self, text: str, stage: str, note: str = "") -> dict[str, Any]:
        """Move a stage to a version, propose that, or confirm it."""
        wanted = Reference.parse(text)
        body = {"version": _version(wanted), "note": note}
        return self._ask("POST", f"/v1/models/{wanted.name}/stages/{quote(stage)}", body)

    def withdraw(self, text: str, stage: str) -> dict[str, Any]:
        """Take back a proposal."""
        wanted = Reference.parse(text)
        path = f"/v1/models/{wanted.name}/stages/{quote(stage)}"
        return self._ask("DELETE", path, query={"version": _version(wanted)})

    def deprecate(self, text: str, reason: str, lasts_ms: int | None = None) -> dict[str, Any]:
        """Let nothing newly point to a version."""
        body = {"reason": reason} | ({} if lasts_ms is None else {"lasts_ms": lasts_ms})
        return self._ask("POST", f"{_path(Reference.parse(text))}/deprecation", body)

    def record(self, envelope: Envelope) -> dict[str, Any]:
        """Bring a signed statement: an approval, a revocation."""
        return self._ask("POST", "/v1/statements", {"envelope": json.loads(envelope.to_json())})

    def approve(
        self,
        text: str,
        key: Signatory,
        reason: str,
        lifetime_ms: int | None = None,
        endpoint: str | None = None,
    ) -> tuple[Subject, str]:
        """Sign an approval of a version with `key`, and bring it; what it is about, and its entry.

        The digest is the one that the registry tells: whoever approves has examined those bytes.
        """
        now = self.clock.now_ms()
        made = Made(TOOL, now, None if lifetime_ms is None else now + lifetime_ms)
        return self._say(text, lambda subject: Approval(made, reason, endpoint), key)

    def revoke(self, text: str, key: Signatory, reason: str) -> tuple[Subject, str]:
        """Sign a revocation of a version with `key`, and bring it."""
        made = Made(TOOL, self.clock.now_ms())
        return self._say(
            text,
            lambda subject: Revocation(made, Target("artifact", subject.digest), reason),
            key,
        )

    def _say(
        self, text: str, say: Callable[[Subject], Predicate], key: Signatory
    ) -> tuple[Subject, str]:
        wanted = Reference.parse(text)
        _version(wanted)
        _, digest = _named(self.show(text), wanted)
        # What is signed is what was asked about, not what somebody answered.
        subject = Subject(wanted.name, digest)
        answer = self.record(make_statement(subject, say(subject), key))
        return subject, str(answer["entry"])

    # Artifacts

    def push(
        self, submission: Submission, attributes: Mapping[str, str], note: str = ""
    ) -> dict[str, Any]:
        """Push a model as the next version under its name.

        It is copied once on this machine, so that what is sent is what was hashed.
        """
        with tempfile.TemporaryDirectory(prefix="keepstone-push-") as folder:
            staged = stage(submission.model, Path(folder), contract=submission.contract)
            beside = [
                None if path is None else path.read_bytes()
                for path in (submission.signature, submission.statements)
            ]
            head = carry.head_bytes(
                {
                    "schema": carry.PUSH,
                    "digest": str(staged.digest),
                    "size": staged.size,
                    "attributes": dict(attributes),
                    "note": note,
                    "signature": None if not beside[0] else len(beside[0]),
                    "statements": None if not beside[1] else len(beside[1]),
                }
            )
            blocks = [head, *(block for block in beside if block)]
            length = sum(map(len, blocks)) + carry.artifact_bytes(staged)
            answer = self._ask(
                "POST",
                f"/v1/models/{submission.name}/versions",
                content=_pieces(blocks, staged),
                headers={"Content-Length": str(length)},
                read_s=_PUSH_S,
            )
        if answer.get("digest") != str(staged.digest):
            raise VerificationError(
                "registry.wrong_answer", "The registry took in another artifact than was sent."
            )
        return answer

    def pull(self, text: str, target: Path, *, examine: str | None = None) -> Pulled:
        """Take a version to `target`, whole and verified, or nothing of it.

        (1) The answer's head is a pull's, for the name that was asked for. (2) The gate named
        here admits this artifact, at what was asked for, now; or it is to be examined, which is
        no admission. (3) What arrives is that artifact, byte for byte.

        Raises as the server refuses; VerificationError `registry.*`, `admission.*`,
        `carry.damaged`; InputError `registry.no_gate_key`, `target.exists`.
        """
        wanted = Reference.parse(text)
        if os.path.lexists(target):
            raise taken(target)
        if self.gate_key is None and examine is None:
            raise InputError(
                "registry.no_gate_key",
                "The gate's key of this registry was not named, so nothing it admits can be known.",
                "Get its id from whoever runs the registry, and give it: --trust-key ID.",
            )
        query = {} if examine is None else {"reason": examine}
        with self._answer("GET", f"{_path(wanted)}/content", query=query) as answer:
            read = Reader(answer.iter_raw(PIECE)).readinto
            # (1)
            head = carry.read_head(read)
            number, digest = _expected(head, wanted)
            # (2)
            admission = self._admission(head, wanted, digest)
            if admission is None and examine is None:
                raise VerificationError(
                    "registry.not_admitted", "The registry gave out what its gate did not admit."
                )
            # (3)
            carry.receive_at(read, digest, target)
        warnings = tuple(shown(str(one)) for one in head.get("warnings", []))
        return Pulled(wanted.name, number, digest, target, admission, warnings)

    def load(self, text: str, *, architecture: str | None = None) -> Loaded:
        """Pull a version and load it for the gate's admission, from the bytes that were hashed.

        Nothing of it stays on the disk. Raises as `pull`, and as `vault.load.load_files`.
        """
        from keepstone.vault.load import load_files

        with tempfile.TemporaryDirectory(prefix="keepstone-pull-") as folder:
            pulled = self.pull(text, Path(folder) / "model")
            assert pulled.admission is not None
            return load_files(
                pulled.path, pulled.admission, now=self.clock.now_ms(), architecture=architecture
            )

    def _admission(
        self, head: Mapping[str, Any], wanted: Reference, digest: Digest
    ) -> Admission | None:
        told = head.get("admission")
        if told is None or self.gate_key is None:
            return None
        gate = parse_public_pem(str(head.get("gate")).encode("utf-8", "replace"))
        if gate.key_id != self.gate_key:
            raise VerificationError(
                "registry.wrong_gate",
                f"The registry's gate has the key {gate.key_id[:16]}, not {self.gate_key[:16]}.",
                "Ask whoever runs the registry, over another way.",
            )
        envelope = Envelope.from_dict(told)
        said = open_payload(envelope).predicate
        return verify_admission(
            envelope,
            gate,
            now=self.clock.now_ms(),
            digest=digest,
            name=wanted.name,
            endpoint=wanted.pointer or LIBRARY,
            # The policy is the registry's own affair: its gate says which one it went by.
            policy_digest=said.policy if isinstance(said, predicates.Admission) else digest,
        )

    # Asking

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        if body is not None:
            more["content"] = canonical(body)
        with self._answer(method, path, **more) as answer:
            return read_object(read_whole(answer))

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        read_s: float | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to a request, if it is a yes; a no is raised as the server says it.

        No redirect is followed, and no proxy or netrc of the environment gets the credential.
        """
        httpx = load_httpx()
        seconds = _READ_S if read_s is None else read_s
        timeout = httpx.Timeout(seconds, connect=_CONNECT_S)
        try:
            with (
                httpx.Client(
                    verify=self._tls(), timeout=timeout, trust_env=False, follow_redirects=False
                ) as client,
                client.stream(
                    method,
                    f"{self.url.rstrip('/')}{path}",
                    params=None if not query else dict(query),
                    content=content,
                    headers={
                        "Authorization": f"Bearer {self.key}",
                        "Accept-Encoding": "identity",
                        **(headers or {}),
                    },
                ) as answer,
            ):
                if answer.status_code not in (200, 201):
                    raise refused(answer.status_code, read_whole(answer))
                yield answer
        except httpx.HTTPError as error:
            raise OperationalError(
                "registry.unreachable",
                f"The registry at {self.url} did not answer as it should:"
                f" {type(error).__name__}: {str(error)[:200]}",
                "Look whether it runs, and whether --ca names its authority.",
            ) from error

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                "registry.bad_ca", f"No certificate authority can be read from {self.ca}."
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def connect(
    url: str, *, key: str, ca: Path | None = None, gate_key: str | None = None
) -> RemoteRegistry:
    """The registry at `url`, asked with an API key or token; see `RemoteRegistry`.

    Nothing is sent yet. Raises InputError `registry.bad_url`.
    """
    return RemoteRegistry(url, key, ca, gate_key)


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def _path(wanted: Reference) -> str:
    base = f"/v1/models/{wanted.name}"
    return base if wanted.is_whole else f"{base}/versions/{_version(wanted)}"


def _version(wanted: Reference) -> str:
    if wanted.is_whole:
        raise InputError(
            "registry.which_version",
            "A model was named, and no version of it.",
            f"Write {wanted.name}@3, {wanted.name}@ALIAS or {wanted.name}@sha256:DIGEST.",
        )
    return str(wanted.digest or wanted.number or wanted.pointer)


def _pieces(blocks: list[bytes], staged: Staged) -> Iterator[bytes]:
    yield from blocks
    yield from carry.pieces(staged)


def _expected(head: Mapping[str, Any], wanted: Reference) -> tuple[int, Digest]:
    """The version that a pull's head speaks of, which is one that was asked for."""
    if head.get("schema") == carry.PULL:
        return _named(head.get("version"), wanted)
    raise _another()


def _named(said: Any, wanted: Reference) -> tuple[int, Digest]:
    """The version that an answer names, which is one that was asked for."""
    match said:
        case {"model": str() as model, "number": int() as number, "digest": str() as text}:
            digest = Digest.parse(text)
            asked = wanted.digest in (None, digest) and wanted.number in (None, number)
            if asked and model == wanted.name:
                return number, digest
    raise _another()


def _another() -> VerificationError:
    return VerificationError(
        "registry.wrong_answer", "The registry answered with another version than was asked for."
    )
