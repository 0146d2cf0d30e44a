"""What may be asked of the owner, and that the answer does not depend on who that is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keepstone.errors import InputError, KeepstoneError
from keepstone.identity.apikeys import DAY_MS
from keepstone.workspace import opened
from keepstone.workspace.control import ControlServer
from keepstone.workspace.opened import Workspace
from keepstone.workspace.operations import OPERATIONS, execute, perform

HOUR = 3_600_000
KEY = {"principal": "user:eve", "roles": ["caller"], "models": ["scale"], "lifetime_ms": HOUR}


@contextlib.contextmanager
def owned(home: Any) -> Iterator[Workspace]:
    """The workspace in the hands of somebody who answers, as `up` does."""
    with home.open() as workspace:
        server = ControlServer(home.layout, lambda *asked: execute(workspace, *asked))
        try:
            yield workspace
        finally:
            server.close()


@pytest.fixture(params=["alone", "beside an owner"])
def ask(request: pytest.FixtureRequest, home: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    """`perform`, where nobody owns the workspace and where somebody does."""
    with contextlib.ExitStack() as stack:
        if request.param != "alone":
            stack.enter_context(owned(home))
        yield lambda operation, /, **given: perform(home.site, operation, given)


def test_a_key_is_minted_listed_rotated_and_revoked(
    home: Any, ask: Callable[..., dict[str, Any]], code: Callable[..., str]
) -> None:
    made = ask("keys.create", **KEY)
    rotated = ask("keys.rotate", key_id=made["key_id"], overlap_ms=HOUR)
    listed = ask("keys.list")["keys"]
    assert [(key["key_id"], key["state"]) for key in listed] == [(made["key_id"], "live")]
    assert listed[0]["grants"] == [{"role": "caller", "models": ["scale"]}]
    assert rotated["key"] != made["key"]
    assert "key" not in listed[0]
    ask("keys.revoke", key_id=made["key_id"])
    assert ask("keys.list")["keys"][0]["state"] == "revoked"
    rotate = lambda: ask("keys.rotate", key_id=made["key_id"], overlap_ms=HOUR)  # noqa: E731
    assert code(rotate) == "apikeys.not_live/1"
    for event in ("key.created", "key.rotated", "key.revoked"):
        assert [entry["key"] for entry in home.events(event)] == [made["key_id"]]
    # Neither the record file nor the ledger holds what would open the door.
    for path in (home.layout.api_keys, home.layout.ledger):
        assert made["key"][16:].encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("keys.create", KEY | {"roles": ["emperor"]}, "role.unknown/2"),
        ("keys.create", KEY | {"roles": []}, "role.unknown/2"),
        ("keys.create", KEY | {"principal": "no colon"}, "principal.invalid/2"),
        ("keys.create", KEY | {"lifetime_ms": 91 * DAY_MS}, "apikeys.lifetime/2"),
        ("keys.create", KEY | {"lifetime_ms": 0}, "apikeys.lifetime/2"),
        ("keys.create", {}, "control.malformed/2"),
        ("keys.rotate", {"key_id": "nobody", "overlap_ms": 1}, "apikeys.unknown/2"),
        ("keys.revoke", {"key_id": "nobody"}, "apikeys.unknown/2"),
        ("keys.revoke", {}, "control.malformed/2"),
        ("token.issue", KEY | {"lifetime_ms": HOUR + 1}, "token.lifetime/2"),
        ("token.issue", KEY | {"principal": 7}, "control.malformed/2"),
        ("signers.add", {"name": "x", "roles": ["approver"], "public_key": "x"}, "key.malformed/2"),
        ("ledger.forget", {"period": "1999-01"}, "audit.unknown_period/2"),
        ("statement.record", {"envelope": 7}, "envelope.malformed/2"),
        ("statement.record", {"envelope": {}}, "envelope.malformed/2"),
        ("shutdown", {}, "control.unknown_operation/2"),
        ("__class__", {}, "control.unknown_operation/2"),
    ],
)
def test_a_wrong_question_gets_one_answer_whoever_is_asked(
    home: Any,
    ask: Callable[..., dict[str, Any]],
    code: Callable[..., str],
    name: str,
    given: dict[str, Any],
    expected: str,
) -> None:
    before = home.entries()

    assert code(ask, name, **given) == expected
    assert home.entries() == before


def test_a_token_lives_as_long_as_the_policy_lets_it(
    home: Any, ask: Callable[..., dict[str, Any]]
) -> None:
    answer = ask("token.issue", **KEY)
    issued = home.events("token.issued")

    assert answer["token"].count(".") == 2
    assert [(entry["principal"], entry["expires"]) for entry in issued] == [
        ("user:eve", home.clock.now + HOUR)
    ]


def test_a_signer_is_added_to_the_policy_and_to_the_record(
    home: Any, ask: Callable[..., dict[str, Any]], code: Callable[..., str]
) -> None:
    key = home.keys["stranger"].verifying
    given = {"name": "frank", "roles": ["approver"], "public_key": key.pem.decode()}
    before = home.layout.policy.read_bytes()
    assert code(ask, "signers.add", **given | {"roles": ["emperor"]}) == "policy.invalid/2"
    assert code(ask, "signers.add", **given | {"roles": ["observer"]}) == "policy.invalid/2"
    assert home.layout.policy.read_bytes() == before
    assert ask("signers.add", **given) == {"key_id": key.key_id}
    assert code(ask, "signers.add", **given) == "policy.invalid/2"
    assert [entry["key"] for entry in home.events("signer.added")] == [key.key_id]
    with contextlib.suppress(KeepstoneError), home.open() as workspace:
        assert workspace.trust.person(key.key_id) == "frank"


def test_the_checkpoint_is_the_one_kept_outside(
    home: Any, ask: Callable[..., dict[str, Any]]
) -> None:
    ask("keys.create", **KEY)
    answer = ask("ledger.checkpoint")
    (kept,) = (home.root / "outside").iterdir()

    assert answer["size"] == 2
    assert kept.read_text() == answer["note"]


def test_every_operation_can_be_asked_for(home: Any, code: Callable[..., str]) -> None:
    with home.open() as workspace:
        for name in set(OPERATIONS) - {"keys.list", "policy.reload", "ledger.checkpoint"}:
            assert code(execute, workspace, name, {}) == "control.malformed/2"


def test_an_owner_who_answers_nobody_is_waited_for_and_named(
    home: Any, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.workspace.operations._PATIENCE_S", 0.2)
    with home.open():
        assert code(perform, home.site, "keys.list", {}) == "workspace.owned/3"


def test_an_owner_who_leaves_meanwhile_is_succeeded(home: Any) -> None:
    with home.open():
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(perform(home.site, "keys.list", {}))
        )
        thread.start()
        thread.join(0.2)
        assert answers == []
    thread.join()
    assert answers == [{"keys": []}]


def test_who_asks_needs_no_passphrase_where_the_owner_has_it(
    sealed: Any, code: Callable[..., str]
) -> None:
    stranger = type(sealed)(sealed.root, None)
    with owned(sealed):
        assert perform(stranger.site, "keys.list", {}) == {"keys": []}
    assert code(perform, stranger.site, "keys.list", {}) == "key.passphrase/2"


# One owner, many who ask at once


def test_no_key_is_lost_between_two_who_mint_at_once(home: Any) -> None:
    with owned(home):
        _at_once(8, lambda n: perform(home.site, "keys.create", KEY | {"principal": f"user:{n}"}))
    with home.open() as workspace:
        assert {kept.principal for kept in workspace.ring.records} == {
            f"user:{n}" for n in range(8)
        }


def test_no_signer_is_lost_between_two_who_add_at_once(home: Any) -> None:
    from keepstone.identity.signing import SigningKey

    keys = [SigningKey.generate().verifying for _ in range(6)]

    def add(n: int) -> None:
        given = {"name": f"n{n}", "roles": ["approver"], "public_key": keys[n].pem.decode()}
        perform(home.site, "signers.add", given)

    with owned(home) as workspace:
        _at_once(6, add)
        assert workspace.trust.signers.keys() >= {key.key_id for key in keys}


def _at_once(count: int, action: Callable[[int], object]) -> None:
    faults: list[BaseException] = []
    together = threading.Barrier(count)

    def run(n: int) -> None:
        together.wait()
        try:
            action(n)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_workspace_opens_with_more_keys_than_a_key_file_may_be_long(home: Any) -> None:
    """Each `up` mints one: a year of starts must not lock the owner out."""
    with home.open() as workspace:
        for n in range(400):
            grants = perform_grants(workspace)
            workspace.ring.mint(f"user:{n}", grants, now=home.clock.now, lifetime_ms=HOUR)
        workspace.save_ring()
    assert home.layout.api_keys.stat().st_size > 1 << 16
    with owned(home):
        assert len(perform(home.site, "keys.list", {})["keys"]) == 400


def perform_grants(workspace: Workspace) -> Any:
    from keepstone.identity.principal import Grant

    assert "caller" in workspace.trust.policy.roles
    return [Grant("caller", ("scale",))]


# The policy file


def test_a_broken_policy_changes_nothing_and_no_new_owner_starts(
    home: Any, code: Callable[..., str]
) -> None:
    with owned(home) as workspace:
        before = (workspace.trust, workspace.authorizer.engine, workspace.evidence)
        home.edit_policy('schema = "keepstone.policy/v1"', 'schema = "keepstone.policy/v9"')
        assert code(perform, home.site, "policy.reload", {}) == "policy.newer_version/2"
        assert (workspace.trust, workspace.authorizer.engine, workspace.evidence) == before
    assert code(home.open().__enter__) == "policy.newer_version/2"
    home.layout.policy.unlink()
    assert code(home.open().__enter__) == "policy.missing/2"


def test_a_policy_that_does_not_compile_changes_nothing(
    home: Any, code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(policy: object) -> None:
        raise InputError("policy.invalid", "Cedar does not take it.")

    with home.open() as workspace:
        told: list[int] = []
        workspace.on_change(lambda: told.append(1))
        before = (workspace.trust, workspace.authorizer.engine, workspace.evidence)
        home.edit_policy("principal_burst = 2000", "principal_burst = 3")
        monkeypatch.setattr(opened, "Engine", refuse)
        assert code(workspace.reload_policy) == "policy.invalid/2"
        assert (workspace.trust, workspace.authorizer.engine, workspace.evidence) == before
        assert told == []


def test_an_edit_that_cannot_come_into_force_is_taken_back(
    home: Any, code: Callable[..., str]
) -> None:
    before = home.layout.policy.read_bytes()
    with home.open() as workspace:
        assert code(workspace.edit_policy, lambda text: text + b"\nnonsense = 1\n").startswith(
            "policy."
        )
    assert home.layout.policy.read_bytes() == before


def test_a_good_policy_is_taken_into_force_and_recorded(home: Any) -> None:
    with owned(home) as workspace:
        home.edit_policy('mode = "strict"', 'mode = "group"')
        answer = perform(home.site, "policy.reload", {})
        assert workspace.trust.policy.audit_mode == "group"
        assert workspace.authorizer.engine.policy is workspace.trust.policy
    assert [entry["policy"] for entry in home.events("policy.loaded")] == [answer["policy"]]


def test_a_key_that_may_ask_more_than_others_is_recorded_with_its_limit(home: Any) -> None:
    with home.layout.policy.open("a") as file:
        file.write("\n[limits.roles.red-team]\nper_second = 5000\nburst = 10000\n")
    perform(home.site, "keys.create", KEY | {"roles": ["red-team"]})
    perform(home.site, "keys.create", KEY)
    tester, caller = home.events("key.created")
    assert (tester["per_second"], tester["burst"]) == (5000, 10000)
    assert "burst" not in caller
