"""A workspace with a clock that can be set, people with keys, and models small enough to read."""

from __future__ import annotations

import functools
import hmac
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import KeepstoneError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.predicates import Approval, Reinstatement, Revocation, Target
from keepstone.evidence.statement import make_statement
from keepstone.gateway.commitment import INPUT, OUTPUT, entry_key
from keepstone.gateway.endpoint import Endpoint
from keepstone.identity.signing import SigningKey
from keepstone.ledger import Kind, LedgerReader, make_entry, parse_entry
from keepstone.policy.parse import add_signer
from keepstone.workspace.admit import Admitted, Submission, submit
from keepstone.workspace.create import create_workspace
from keepstone.workspace.lab import training
from keepstone.workspace.layout import Layout
from keepstone.workspace.opened import Workspace, open_workspace
from keepstone.workspace.site import Site

NOW = 1_790_000_000_000
PASSPHRASE = b"correct horse"
TOOL = Tool("keepstone", "0")
PEOPLE = {
    "alice": ("publisher",),
    "bob": ("approver",),
    "carol": ("responder",),
    "dave": ("reinstater",),
    "erin": ("responder", "reinstater"),
}
KEYS = {name: SigningKey.generate() for name in (*PEOPLE, "stranger")}


class SetClock:
    """A wall clock that a test moves."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def now_ms(self) -> int:
        return self.now


class Heard:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.told: list[str] = []
        self.warnings: list[str] = []

    def begin(self, step: str) -> None:
        self.steps.append(step)

    def copied(self, done: int, expected: int) -> None:
        assert 0 <= done <= expected

    def end(self, detail: str) -> None:
        self.told.append(detail)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class NoRuntime:
    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return inputs


class Home:
    """A folder with a workspace, its checkpoints outside, models, and people."""

    def __init__(self, root: Path, passphrase: bytes | None = None) -> None:
        self.root = root
        self.clock = SetClock()
        self.keys = KEYS
        self.site = Site(Layout(root / "ws"), root / "outside", passphrase, self.clock)

    @property
    def layout(self) -> Layout:
        return self.site.layout

    def create(self, profile: str = "local", **given: Any) -> Home:
        create_workspace(self.site, profile=profile, **given)
        return self

    def with_people(self) -> Home:
        policy = self.layout.policy.read_bytes()
        for name, roles in PEOPLE.items():
            policy = add_signer(policy, name, roles, KEYS[name].verifying)
        self.layout.policy.write_bytes(policy)
        return self

    def edit_policy(self, old: str, new: str) -> None:
        text = self.layout.policy.read_text()
        assert old in text
        self.layout.policy.write_text(text.replace(old, new))

    def open(self) -> AbstractContextManager[Workspace]:
        return open_workspace(self.site)

    def model(self, name: str = "scale.onnx", scale: float = 2.0) -> Path:
        """An ONNX file that multiplies three numbers by `scale`."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        weights = numpy_helper.from_array(np.eye(3, dtype=np.float32) * scale, "w")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "scale",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
            [weights],
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
        return path

    def submit(self, workspace: Workspace, model: Path | None = None, **given: str) -> Admitted:
        self.heard = Heard()
        return submit(workspace, Submission.of(model or self.model(), **given), self.heard)

    def endpoint(self, admitted: Admitted) -> Endpoint:
        return Endpoint(admitted.verdict.subject.name, admitted.contract, NoRuntime())

    # Statements, as people sign them

    def made(self, expires: int | None = None) -> Made:
        return Made(TOOL, self.clock.now, expires)

    def approval(self, subject: Subject, by: str = "bob", expires: int | None = None) -> Envelope:
        return make_statement(subject, Approval(self.made(expires), "looked at it"), KEYS[by])

    def revocation(self, subject: Subject, by: str = "carol", kind: str = "artifact") -> Envelope:
        target = Target(kind, subject.digest)
        return make_statement(subject, Revocation(self.made(), target, "poisoned"), KEYS[by])

    def reinstatement(self, revocation: Envelope, subject: Subject, by: str = "dave") -> Envelope:
        said = Reinstatement(self.made(), revocation.digest, "it was a mistake")
        return make_statement(subject, said, KEYS[by])

    # What is on the record

    def entries(self, kind: str | None = None) -> list[dict[str, object]]:
        with LedgerReader.open(self.layout.ledger) as reader:
            found = [parse_entry(body) for _, body in reader.entries()]
        return [entry for entry in found if kind is None or entry["kind"] == kind]

    def events(self, name: str) -> list[dict[str, object]]:
        return [entry for entry in self.entries("event") if entry["event"] == name]


@pytest.fixture
def bare(tmp_path: Path) -> Home:
    """No workspace yet."""
    return Home(tmp_path)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    Home(root).create().with_people()
    return root


@pytest.fixture
def home(tmp_path: Path, _made: Path) -> Home:
    """A workspace of the local profile whose policy knows PEOPLE."""
    shutil.copytree(_made, tmp_path, dirs_exist_ok=True)
    return Home(tmp_path)


@pytest.fixture(scope="session")
def _sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sealed")
    Home(root, PASSPHRASE).create()
    return root


@pytest.fixture
def sealed(tmp_path: Path, _sealed: Path) -> Home:
    """A workspace whose keys are under the passphrase `correct horse`."""
    shutil.copytree(_sealed, tmp_path, dirs_exist_ok=True)
    return Home(tmp_path, PASSPHRASE)


@pytest.fixture(scope="session")
def _served(tmp_path_factory: pytest.TempPathFactory, _made: Path) -> Path:
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(_made, root, dirs_exist_ok=True)
    place = Home(root)
    with place.open() as workspace:
        place.submit(workspace)
    return root


@pytest.fixture
def served(tmp_path: Path, _served: Path) -> Home:
    """As `home`, and `scale.onnx` was admitted there before."""
    shutil.copytree(_served, tmp_path, dirs_exist_ok=True)
    return Home(tmp_path)


@pytest.fixture
def subject(served: Home) -> Subject:
    """What `served` serves."""
    for entry in served.entries("event"):
        assert entry["event"] != "admission.denied"
    from keepstone.workspace.reading import find_subject, read_workspace

    with read_workspace(served.site) as view:
        return find_subject(view.evidence, "scale")


@pytest.fixture
def code() -> Callable[..., str]:
    """Call something that must fail; its stable code and exit status, as `code/status`."""

    def find(action: Callable[..., object], *given: object, **named: object) -> str:
        with pytest.raises(KeepstoneError) as caught:
            action(*given, **named)
        return f"{caught.value.code}/{int(caught.value.exit_code)}"

    return find


@pytest.fixture
def prediction() -> Callable[..., str]:
    """Write the entry of one prediction as the gateway does; the entry's id."""

    def write(place: Home, question: bytes, answer: bytes) -> str:
        with place.open() as workspace:
            period = workspace.periods.current(workspace.clock.now_ms())
            nonce = secrets.token_hex(24)
            key = entry_key(period.key, nonce)
            said = {
                "period": period.name,
                "nonce": nonce,
                "in": hmac.digest(key, INPUT + question, "sha256").hex(),
                "out": hmac.digest(key, OUTPUT + answer, "sha256").hex(),
                "model": "scale",
                "decision": "allowed",
            }
            body = make_entry(Kind.PREDICTION, workspace.clock.now_ms(), said)
            pending = workspace.ledger.append(body)
            pending.wait(20)
            return pending.entry_id

    return write


@pytest.fixture
def never() -> Digest:
    """The digest of something nobody has seen."""
    return Digest("ab" * 32)


@pytest.fixture(scope="module")
def one_server() -> Iterator[None]:
    """Trainings of one function are forked from one server, whichever test asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Fresh", functools.cache(training.Fresh))
        yield
