"""The registry as its server hands it out: members of a request in, an answer's members out.

What travels beside an artifact, both ways, is described here; see also `vault.carry`.

    push  {"schema": "keepstone.push/v1", "digest", "size", "attributes", "note", "signature",
           "statements"}
          the last two are sizes in bytes, or null; the blocks follow in this order
    pull  {"schema": "keepstone.pull/v1", "version", "admission", "gate", "warnings"}
          `admission` is the gate's envelope for this very artifact, null where it is only to be
          looked at; `gate` is the key that signed it
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keepstone.core.digest import Digest
from keepstone.core.ports import rfc3339
from keepstone.errors import InputError, OperationalError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.fields import Fields
from keepstone.evidence.statement import open_payload
from keepstone.files import make_private_directory
from keepstone.gateway.registry.port import Open, Read
from keepstone.identity.principal import Principal
from keepstone.policy.admission import NO_CONTRACT
from keepstone.vault import carry
from keepstone.vault.overlap import Sink
from keepstone.vault.registry.release import Release
from keepstone.workspace.admit import sign_verdict
from keepstone.workspace.intake import Submission
from keepstone.workspace.opened import Workspace
from keepstone.workspace.registry.operations import Listening, moved, named
from keepstone.workspace.registry.registry import Registry
from keepstone.workspace.registry.requests import Push

_MAX_REMEMBERED = 4096
# What pushes leave free on the disk that the ledger is on.
_SPARE = 256 << 20
Given = Mapping[str, Any]


class ServedRegistry:
    """The registry of an owned workspace, for its gateway. Any thread may call."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._registry = Registry(workspace)
        self._admissions = _Admissions(workspace)
        self._lock = threading.Lock()
        # Bytes of pushes under way.
        self._arriving = 0

    def perform(self, who: Principal, operation: str, arguments: Given) -> dict[str, Any]:
        """Do an operation that takes and returns JSON members.

        Raises InputError `request.malformed`, and what the operation raises.
        """
        try:
            return _OPERATIONS[operation](self, who, arguments)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "request.malformed", "The request lacks something, or gives it in another form."
            ) from error

    def push(self, who: Principal, model: str, read: Read) -> dict[str, Any]:
        """Take in a version. (1) What it says of itself is read, and whether `who` may push it
        decided, and whether there is room, before a byte of it is taken. (2) What arrives is
        staged, and is what was named. (3) It goes the way of every push."""
        # (1)
        with self._registry.attempt(who, "push", model):
            head = _Head.read(carry.read_head(read))
        self._registry.require_welcome(who, model, head.attributes, head.size)
        staging = self._workspace.layout.staging
        make_private_directory(staging)
        beside = Path(tempfile.mkdtemp(prefix="beside-", dir=staging))
        try:
            # (2)
            with self._room_for(who, model, head.size):
                with self._registry.attempt(who, "push", model):
                    paths = {
                        name: _keep(beside / name, carry.read_block(read, length))
                        for name, length in head.beside.items()
                    }
                    staged = carry.receive_staged(read, head.digest, head.size, staging)
                try:
                    submission = Submission(
                        model=staged.path,
                        name=model,
                        signature=paths.get("signature"),
                        statements=paths.get("statements"),
                    )
                    # (3)
                    told = Listening()
                    asked = Push(submission, head.attributes, head.note, staged)
                    done = self._registry.push(who, asked, told)
                finally:
                    staged.discard()
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return named(done.version) | {
            "size": done.version.size,
            "scan": done.version.outcome.value,
            "known": done.known,
            "entry": done.entry,
            "warnings": told.warnings,
        }

    @contextmanager
    def _room_for(self, who: Principal, model: str, size: int) -> Iterator[None]:
        """Hold room for `size` bytes on their way in, which the quota does not know of yet.

        Raises DeniedError `registry.quota`, OperationalError `disk.full`; both are recorded.
        """
        with self._lock, self._registry.attempt(who, "push", model):
            self._registry.require_room(who, model, self._arriving + size)
            # Once as it came, once sealed; what is left is for the ledger.
            needed = 2 * (self._arriving + size) + _SPARE
            if shutil.disk_usage(self._workspace.layout.staging).free < needed:
                raise OperationalError(
                    "disk.full", "There is no room left for that.", "Free space and try again."
                )
            self._arriving += size
        try:
            yield
        finally:
            with self._lock:
                self._arriving -= size

    def pull(self, who: Principal, model: str, reference: str, reason: str, begin: Open) -> None:
        """Give a version out: decided and recorded, admitted at what was named, then sent."""
        pulled = self._registry.pull(
            who, f"{model}@{reference}", examine=reason or None, trust_ms=None
        )
        admission = None
        if pulled.release.reason is None:
            admission = json.loads(self._admissions.of(pulled.release))
        head = carry.head_bytes(
            {
                "schema": carry.PULL,
                "version": named(pulled.version) | {"size": pulled.version.size},
                "admission": admission,
                "gate": self._workspace.keys.gate.verifying.pem.decode("ascii"),
                "warnings": list(pulled.warnings),
            }
        )

        def open_sink(length: int) -> Sink:
            sink = begin(len(head) + length)
            sink(memoryview(head))
            return sink

        self._registry.send_out(pulled.release, open_sink)

    # The operations that are JSON both ways

    def _list(self, who: Principal, given: Given) -> dict[str, Any]:
        page = self._registry.list(
            who,
            model=given.get("model"),
            after=given.get("after"),
            limit=int(given.get("limit", 1000)),
        )
        return {"versions": list(page.versions), "next": page.next}

    def _show(self, who: Principal, given: Given) -> dict[str, Any]:
        return self._registry.show(who, _text(given))

    def _diff(self, who: Principal, given: Given) -> dict[str, Any]:
        return self._registry.diff(who, str(given["a"]), str(given["b"]))

    def _alias(self, who: Principal, given: Given) -> dict[str, Any]:
        return moved(
            self._registry.alias(who, _text(given), str(given["alias"]), str(given.get("note", "")))
        )

    def _remove_alias(self, who: Principal, given: Given) -> dict[str, Any]:
        model, name = str(given["model"]), str(given["alias"])
        return moved(self._registry.remove_alias(who, model, name, str(given.get("note", ""))))

    def _promote(self, who: Principal, given: Given) -> dict[str, Any]:
        stage, note = str(given["stage"]), str(given.get("note", ""))
        return moved(self._registry.promote(who, _text(given), stage, note))

    def _withdraw(self, who: Principal, given: Given) -> dict[str, Any]:
        return moved(self._registry.withdraw(who, _text(given), str(given["stage"])))

    def _deprecate(self, who: Principal, given: Given) -> dict[str, Any]:
        lasts = given.get("lasts_ms")
        until = None if lasts is None else self._workspace.clock.now_ms() + int(lasts)
        version = self._registry.deprecate(who, _text(given), str(given["reason"]), until)
        return named(version) | {"until": None if until is None else rfc3339(until)}

    def _record(self, who: Principal, given: Given) -> dict[str, Any]:
        """Take in a signed statement about a model that `who` sees; its signer's right counts.

        One that is known already is not written again, whoever brings it.
        """
        envelope = Envelope.from_dict(given["envelope"])
        with self._registry.attempt(who, "statement", str(envelope.digest), read=True) as attempt:
            subject = open_payload(envelope).subject
            attempt.fields |= {"model": subject.name, "digest": subject.digest.hex}
            self._registry.require_visible(who, subject.name)
            if self._workspace.evidence.statement(envelope.digest) is not None:
                raise InputError("registry.known_statement", "That statement is on the record.")
            entry, found = self._workspace.take(envelope)
        return {"entry": str(entry), "kind": found.kind, "subject": str(found.subject)}


@dataclass(frozen=True, slots=True)
class _Head:
    """What a push says of itself; `beside` are the lengths of the blocks that follow, in order."""

    digest: Digest
    size: int
    attributes: Mapping[str, str]
    note: str
    beside: Mapping[str, int]

    @classmethod
    def read(cls, value: Given) -> _Head:
        """Raises InputError `carry.malformed`, and what reading a field raises."""
        fields = Fields(value, "push", "carry.malformed")
        if fields.text("schema", 64) != carry.PUSH:
            raise fields.fault("schema", f"is not {carry.PUSH}")
        found = cls(
            fields.digest("digest"),
            fields.integer("size"),
            dict(fields.lines("attributes", 64)),
            str(fields.raw("note") or ""),
            {
                name: fields.integer(name, 1)
                for name in ("signature", "statements")
                if fields.raw(name) is not None
            },
        )
        fields.done()
        return found


class _Admissions:
    """Admissions for what is given out, each used for two thirds of its life.

    The gate is asked every time before this is; only its signature and entry are not made anew.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], tuple[bytes, int]] = {}

    def of(self, release: Release) -> bytes:
        """The gate's envelope for what was released, at the endpoint that it was released at."""
        verdict, contract = release.verdict, release.version.contract
        key = (str(verdict.subject), verdict.endpoint, verdict.policy.hex)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and verdict.now < kept[1]:
            return kept[0]
        envelope = sign_verdict(
            self._workspace, verdict, NO_CONTRACT if contract is None else contract
        )
        # An event, and no statement: what somebody took elsewhere is not what a name means here.
        self._workspace.record_event(
            "admission.carried",
            {
                "model": verdict.subject.name,
                "digest": verdict.subject.digest.hex,
                "endpoint": verdict.endpoint,
                "admission": Envelope.parse(envelope).digest.hex,
                "expires": verdict.expires,
            },
        )
        with self._lock:
            if len(self._kept) >= _MAX_REMEMBERED:
                self._kept.clear()
            self._kept[key] = envelope, verdict.now + (verdict.expires - verdict.now) * 2 // 3
        return envelope


def _text(given: Given) -> str:
    """`name`, or `name@version`, as the parts of a path give it."""
    version = given.get("version")
    return str(given["model"]) if version is None else f"{given['model']}@{version}"


def _keep(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


_OPERATIONS: Mapping[str, Callable[[ServedRegistry, Principal, Given], dict[str, Any]]] = (
    MappingProxyType(
        {
            "registry.list": ServedRegistry._list,
            "registry.show": ServedRegistry._show,
            "registry.diff": ServedRegistry._diff,
            "registry.alias": ServedRegistry._alias,
            "registry.remove_alias": ServedRegistry._remove_alias,
            "registry.promote": ServedRegistry._promote,
            "registry.withdraw": ServedRegistry._withdraw,
            "registry.deprecate": ServedRegistry._deprecate,
            "statement.record": ServedRegistry._record,
        }
    )
)
