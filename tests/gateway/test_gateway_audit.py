"""The record: what an entry holds, what an answer waits for, and what a stalled ledger does."""

from __future__ import annotations

import asyncio
import json

import pytest

from keepstone.core.canonical import canonical
from keepstone.core.ports import SystemRandomness
from keepstone.errors import OperationalError
from keepstone.gateway.audit import AuditOptions, AuditTrail
from keepstone.gateway.commitment import entry_key, open_entry
from keepstone.gateway.limits import Rate
from keepstone.gateway.refusals import FIRST
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import EntryId, Ledger, parse_entry
from keepstone.ledger.entry import index_keys

PERIOD_KEY = bytes(range(32))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# What an entry holds


def test_an_entry_is_canonical_and_opens_with_its_key_alone(make, run, body):
    world = make()
    sent = body([[1, 2]])

    async def test():
        first = await world.ask(body=sent)
        await world.ask(body=sent)
        one, two = world.log.bodies
        for raw in (one, two):
            assert canonical(json.loads(raw)) == raw
            assert parse_entry(raw)["kind"] == "prediction"
            assert index_keys(raw) == ()
        entry = json.loads(one)
        assert entry.keys() == {
            "admission",
            "decision",
            "in",
            "in_bytes",
            "key",
            "kind",
            "model",
            "nonce",
            "out",
            "out_bytes",
            "period",
            "principal",
            "status",
            "t",
            "us",
        }
        assert entry["key"] == world.key[3:15]
        assert entry["admission"] == world.endpoint.admitted(world.clock.now)
        assert entry["t"] == world.clock.now
        key = entry_key(PERIOD_KEY, entry["nonce"])
        opened = open_entry(one, key, input=sent, output=first.body)
        assert opened.input_matches is True
        assert opened.output_matches is True
        assert open_entry(one, key, input=sent + b" ").input_matches is False
        # The same input twice leaves nothing in the ledger that is the same twice.
        other = json.loads(two)
        assert {entry["in"], entry["out"], entry["nonce"]}.isdisjoint(
            {other["in"], other["out"], other["nonce"]}
        )
        assert open_entry(two, key, input=sent).input_matches is False

    run(world, test)


def test_no_entry_holds_an_input_or_an_address(make, run, body):
    world = make(address=Rate(0.001, 2))

    async def test():
        for _ in range(4):
            await world.ask(body=body([[12.345678, 2]]), address="203.0.113.77")
        await world.ask(key="ks_secret-of-a-stranger", address="203.0.113.78")
        everything = b"".join(world.log.bodies)
        for secret in (b"12.345678", b"203.0.113", b"stranger", world.key[15:].encode()):
            assert secret not in everything

    run(world, test)


def test_a_period_is_entered_when_the_one_before_ends(make, run):
    world = make()

    async def test():
        await world.ask()
        await world.ask()
        world.clock.now += 86_400_000 - 1
        await world.ask()
        assert len(world.periods.asked) == 2
        assert len({entry["period"] for entry in world.log.entries()}) == 2

    run(world, test)


def test_nonces_differ_between_runs_and_within_one():
    runs = {AuditTrail(None, None, None, SystemRandomness())._run for _ in range(3)}
    assert len(runs) == 3


# Strict


def test_strict_no_answer_before_its_entry_is_durable(make, run, fake_log):
    log = fake_log(auto=False)
    world = make(log=log)

    async def test():
        asked = [asyncio.ensure_future(world.ask()) for _ in range(4)]
        refused = asyncio.ensure_future(world.ask(body=b"nope"))
        await turns()
        assert len(log.bodies) == 5
        assert not any(each.done() for each in (*asked, refused))
        log.commit(2)
        await turns()
        assert [each.done() for each in asked] == [True, True, False, False]
        log.commit()
        await turns()
        assert all(each.done() for each in asked)
        assert (await refused).code == "request.not_json"
        assert world.gateway.audit.outstanding == 0

    run(world, test)


def test_strict_a_lost_entry_is_no_answer(make, run, fake_log):
    log = fake_log(auto=False)
    world = make(log=log)

    async def test():
        kept = asyncio.ensure_future(world.ask())
        await turns()
        log.commit()
        lost = [asyncio.ensure_future(world.ask()), asyncio.ensure_future(world.ask(body=b"x"))]
        await turns()
        log.fail()
        await turns()
        assert (await kept).status == 200
        for each in lost:
            reply = await each
            assert reply.status == 503
            assert reply.code == "audit.unavailable"
            assert "keepstone-entry" not in reply.headers
        # Stopped: nothing more is computed into the void, and it says so.
        assert (await world.ask()).code == "audit.unavailable"
        # Mended: it serves again, and nobody pays for the failure before.
        log.stopped, log.auto = False, True
        assert (await world.ask()).status == 200

    run(world, test)


def test_strict_a_stalled_ledger_is_no_answer(make, run, fake_log):
    log = fake_log(auto=False)
    world = make(log=log, audit=AuditOptions(max_wait_s=0.2))

    async def test():
        reply = await world.ask()
        assert reply.code == "audit.unavailable"
        log.commit()

    run(world, test)


# Group


def group(**changes):
    return AuditOptions(mode="group", **changes)


def test_group_answers_ahead_of_the_disk_but_only_so_far(make, run, fake_log):
    log = fake_log(auto=False)
    options = group(max_outstanding=5, max_age_s=60, patience_s=0.05)
    world = make(log=log, audit=options)

    async def test():
        replies = [await world.ask() for _ in range(6)]
        assert [reply.status for reply in replies] == [200] * 6
        assert log.durable == 0
        reply = await world.ask()
        assert reply.status == 503
        assert reply.code == "audit.backlog"
        assert world.runtime.calls == 6
        assert len(log.entries()) == 6
        log.commit()
        assert (await world.ask()).status == 200
        log.commit()

    run(world, test)


def test_group_answers_ahead_of_the_disk_but_only_so_long(make, run, fake_log):
    log = fake_log(auto=False)
    world = make(log=log, audit=group(patience_s=0.05))

    async def test():
        assert (await world.ask()).status == 200
        await asyncio.sleep(0.03)
        assert (await world.ask()).code == "audit.backlog"
        log.commit()
        assert (await world.ask()).status == 200
        log.commit()

    run(world, test)


def test_group_waits_a_moment_for_room(make, run, fake_log):
    log = fake_log(auto=False)
    world = make(log=log, audit=group(patience_s=5))

    async def test():
        assert (await world.ask()).status == 200
        await asyncio.sleep(0.03)
        waiting = [asyncio.ensure_future(world.ask()) for _ in range(3)]
        await asyncio.sleep(0.03)
        assert not any(each.done() for each in waiting)
        log.commit()
        assert [(await each).status for each in waiting] == [200] * 3
        log.commit()

    run(world, test)


def test_group_answers_of_one_turn_leave_together(make, run):
    world = make(audit=group())

    async def test():
        lone = world.gateway.audit.leave()
        await turns(2)
        assert lone.done()
        first = world.gateway.audit.leave()
        world.gateway.audit.leave()
        await asyncio.sleep(0)
        second = world.gateway.audit.leave()
        assert second is first
        assert not first.done()
        await turns(2)
        assert first.done()

    run(world, test)


def test_group_answers_do_not_wait_for_others_for_long(make, run):
    world = make(audit=group(together_s=0))

    async def test():
        for _ in range(3):
            held = world.gateway.audit.leave()
            world.gateway.audit.leave()
            await turns(2)
            assert held.done()

    run(world, test)


def test_group_a_stopped_ledger_refuses(make, run, fake_log):
    log = fake_log(auto=False)
    world = make(log=log, audit=group(patience_s=0.05))

    async def test():
        assert (await world.ask()).status == 200
        log.fail()
        await turns()
        assert (await world.ask()).code == "audit.unavailable"
        log.stopped = False
        assert (await world.ask()).status == 200
        log.commit()

    run(world, test)


def test_group_flushes_within_its_time(make, run):
    world = make(audit=group())

    async def test():
        assert (await world.ask()).status == 200
        assert world.log.durable == 0
        await asyncio.sleep(0.05)
        assert world.log.durable == 1

    run(world, test)


def test_group_flushes_in_a_long_turn_of_the_loop(make, run):
    world = make(audit=group(gather_s=0.01))
    world.runtime.wait = 0.0015

    async def test():
        # ask() never yields to the loop here, so no timer can fire.
        for _ in range(40):
            assert (await world.ask()).status == 200
        assert world.log.durable > 0

    run(world, test)


# Refusals


def test_strangers_cost_the_ledger_a_few_entries_and_never_wait(make, run, fake_log):
    log = fake_log(auto=False)
    world = make(log=log)

    async def test():
        for _ in range(500):
            assert (await world.ask(key=None)).code == "auth.missing"
            assert (await world.ask(key="ks_wrong")).code == "auth.rejected"
        assert len(log.bodies) <= 2 * FIRST + 2
        log.auto = True

    run(world, test)


def test_what_was_counted_is_recorded_at_the_end(make, run):
    world = make()

    async def test():
        for _ in range(50):
            await world.ask(key=None)

    run(world, test)
    entries = world.log.entries("refusals")
    assert {entry["reason"] for entry in entries} == {"auth.missing"}
    assert sum(entry["count"] for entry in entries) == 50
    assert entries[-1]["count"] == 50 - FIRST
    assert all(entry["principal"] is None for entry in entries)


def test_a_principal_over_its_limit_or_without_grant_is_counted(make, run):
    world = make(principal=Rate(0.001, 1))
    reader = world.mint("reader")

    async def test():
        for _ in range(30):
            await world.ask()
            await world.ask(key=reader)

    run(world, test)
    counted: dict[tuple[str, str], int] = {}
    for entry in world.log.entries("refusals"):
        kind = (entry["reason"], entry["principal"])
        counted[kind] = counted.get(kind, 0) + entry["count"]
    assert counted == {
        ("limit.principal", "user:alice"): 29,
        ("policy.denied", "user:other"): 30,
    }
    assert len(world.log.bodies) <= 1 + 2 * (FIRST + 1)


def test_refusals_that_cannot_be_recorded_are_counted_for_metrics(make, run, fake_log):
    log = fake_log()
    world = make(log=log)

    async def test():
        log.stopped = True
        assert (await world.ask(key=None)).code == "auth.missing"
        assert world.gateway.audit.lost_refusals == 1
        log.stopped = False

    run(world, test)


# Stopping


def test_stopping_waits_for_what_is_outstanding(make, fake_log):
    log = fake_log(auto=False)
    world = make(log=log, audit=group(max_age_s=60))

    async def main():
        await world.gateway.start()
        await world.ask()
        stopping = asyncio.ensure_future(world.gateway.stop())
        await turns()
        assert not stopping.done()
        log.commit()
        await stopping
        assert log.subscribers == []

    asyncio.run(main())


def test_stopping_says_when_the_record_is_not_whole(make, fake_log):
    log = fake_log(auto=False)
    world = make(log=log, audit=group(max_age_s=60))

    async def main():
        await world.gateway.start()
        await world.ask()
        stopping = asyncio.ensure_future(world.gateway.stop())
        await turns()
        log.fail()
        with pytest.raises(OperationalError) as caught:
            await stopping
        assert caught.value.code == "audit.unavailable"

    asyncio.run(main())


# The real ledger


@pytest.mark.parametrize("mode", ["strict", "group"])
def test_with_a_real_ledger_each_answer_names_its_entry(make, run, tmp_path, mode):
    key = SigningKey.generate(Algorithm.ED25519)
    with Ledger.create(tmp_path / "l.db", origin="keepstone.test/gateway", key=key) as ledger:
        world = make(log=ledger, audit=AuditOptions(mode=mode, max_age_s=5))

        async def test():
            replies = await asyncio.gather(*(world.ask() for _ in range(100)))
            assert all(reply.status == 200 for reply in replies)
            return [reply.headers["keepstone-entry"] for reply in replies]

        named = run(world, test)
        assert ledger.durable_size == 100
        assert len(set(named)) == 100
        for text in named:
            entry = EntryId.parse(text)
            entry.check(ledger.body(entry.index))


def test_it_subscribes_and_leaves(make, run):
    world = make()

    async def test():
        assert len(world.log.subscribers) == 1

    run(world, test)
    assert world.log.subscribers == []
