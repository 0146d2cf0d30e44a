"""A workspace reduced to what it exports, and a machine that receives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from keepstone.core.digest import Digest, FileDigest, artifact_digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import KeepstoneError
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.predicates import Predicate, Revocation, Scan, Target
from keepstone.evidence.record import entry_body
from keepstone.evidence.statement import make_statement
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger.checkpoint import Checkpoint, sign_checkpoint
from keepstone.ledger.tree import inclusion_path, leaf_hash, root_of
from keepstone.policy.bundle import Contents, Logged, make_bundle
from keepstone.policy.parse import add_signer, profile_text
from keepstone.trust import Trusted, open_bundle

NOW = 1_790_000_000_000
HOUR = 3_600_000
KEYS = {name: SigningKey.generate() for name in ("observer", "gate", "carol")}
LEDGER = SigningKey.generate(Algorithm.ED25519)
POLICY = add_signer(profile_text("local"), "carol", ("responder",), KEYS["carol"].verifying)


class SetClock:
    def __init__(self) -> None:
        self.now = NOW

    def now_ms(self) -> int:
        return self.now


@dataclass
class Sender:
    """A workspace's statements, and the bundles made of them."""

    origin: str = "keepstone/0123456789abcdef"
    gate: SigningKey = KEYS["gate"]
    bodies: list[bytes] = field(default_factory=list)

    def state(self, subject: Subject, predicate: Predicate, by: str = "observer") -> None:
        self.bodies.append(entry_body(make_statement(subject, predicate, KEYS[by]), NOW))

    def scan(self, digest: Digest, format: str = "onnx", name: str = "scale") -> None:
        made = Made(Tool("keepstone", "0"), NOW)
        said = Scan(made, Outcome.CLEAN, format, (), 0, Digest.of(b"report"), "1")
        self.state(Subject(name, digest), said)

    def revoke(self, digest: Digest) -> None:
        said = Revocation(Made(Tool("t", "0"), NOW), Target("artifact", digest), "poisoned")
        self.state(Subject("scale", digest), said, "carol")

    def bundle(self, issued: int = NOW, lifetime: int = HOUR) -> bytes:
        leaves = [leaf_hash(body) for body in self.bodies]

        def node(level: int, index: int) -> bytes:
            return root_of(leaves[index << level : (index + 1) << level])

        head = Checkpoint(self.origin, len(leaves), root_of(leaves))
        listed = [
            Logged(index, body, tuple(inclusion_path(index, len(leaves), node)))
            for index, body in enumerate(self.bodies)
        ]
        made = Contents(
            self.origin,
            issued,
            issued + lifetime,
            KEYS["observer"].verifying,
            self.gate.verifying,
            LEDGER.verifying,
            POLICY,
            sign_checkpoint(head, LEDGER),
            tuple(listed),
        )
        return make_bundle(made, self.gate)


@dataclass
class Machine:
    """Where a bundle arrives: a folder, a clock, and what it remembers."""

    root: Path
    clock: SetClock = field(default_factory=SetClock)

    @property
    def outside(self) -> Path:
        return self.root / "state"

    def open(self, data: bytes, key: str | None = KEYS["gate"].key_id, **given: object) -> Trusted:
        path = self.root / "bundle.trust"
        path.write_bytes(data)
        return open_bundle(
            path,
            outside=self.outside,
            trust_key=key,
            clock=self.clock,
            **given,  # type: ignore[arg-type]
        )


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An ONNX file that doubles three numbers."""
    return write_onnx(tmp_path / "scale.onnx", 2.0)


def write_onnx(path: Path, factor: float, external: bool = False) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((1, 3), factor, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
        [weight],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path, save_as_external_data=external, location="w.bin", size_threshold=0)
    return path


@pytest.fixture
def onnx_file() -> Callable[..., Path]:
    return write_onnx


@pytest.fixture
def digest_of() -> Callable[[Path], Digest]:
    """The artifact digest of a single file."""

    def find(path: Path) -> Digest:
        data = path.read_bytes()
        return artifact_digest([FileDigest(".", len(data), Digest.of(data))])

    return find


@pytest.fixture
def code() -> Callable[..., str]:
    def find(action: Callable[..., object], *given: object, **named: object) -> str:
        with pytest.raises(KeepstoneError) as caught:
            action(*given, **named)
        return f"{caught.value.code}/{int(caught.value.exit_code)}"

    return find
