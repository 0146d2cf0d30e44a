from __future__ import annotations

from keepstone.gateway.refusals import FIRST, MAX_KINDS, RefusalTally, Refused


def test_the_first_few_are_told_and_the_rest_is_one_count():
    tally = RefusalTally()
    assert [tally.add("auth.missing", None) for _ in range(10)] == [True] * FIRST + [False] * 7
    assert list(tally.close_window(100.0)) == [Refused("auth.missing", None, 10 - FIRST)]
    assert tally.add("auth.missing", None)
    assert list(tally.close_window(105.0)) == []
    assert list(tally.close_window(111.0)) == []


def test_reasons_and_principals_are_counted_apart():
    tally = RefusalTally(first=0)
    for _ in range(3):
        tally.add("a", None)
    tally.add("a", "user:x")
    tally.add("b", None)
    assert set(tally.close_window(1.0)) == {
        Refused("a", None, 3),
        Refused("a", "user:x", 1),
        Refused("b", None, 1),
    }


def test_too_many_principals_are_counted_together():
    tally = RefusalTally(first=0)
    for i in range(MAX_KINDS + 50):
        tally.add("limit.principal", f"user:{i}")
    closed = list(tally.close_window(1.0))
    assert len(closed) == MAX_KINDS + 1
    assert closed[-1] == Refused("limit.principal", None, 50)


def test_a_window_can_be_closed_early():
    tally = RefusalTally(first=0)
    list(tally.close_window(0.0))
    tally.add("a", None)
    assert list(tally.close_window(1.0)) == []
    assert list(tally.close_window(1.0, force=True)) == [Refused("a", None, 1)]
