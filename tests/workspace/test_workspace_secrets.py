"""The audit trail's period keys and the pepper: wrapped, kept, and destroyed for good."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.gateway.commitment import entry_key
from keepstone.vault.keks.file import FileKek
from keepstone.workspace.operations import perform
from keepstone.workspace.proving import prove_entry
from keepstone.workspace.reading import verify_ledger_of
from keepstone.workspace.secrets import AuditPeriods, _month, _month_end, load_pepper

KEK = FileKek.of(bytes(range(32)))


def _ms(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


NOVEMBER = _ms(2026, 11, 24)


@pytest.fixture
def periods(tmp_path: Path) -> AuditPeriods:
    return AuditPeriods(tmp_path / "periods.json", KEK)


def _again(periods: AuditPeriods, kek: FileKek = KEK) -> AuditPeriods:
    return AuditPeriods(periods._path, kek)


@given(st.integers(0, _ms(9998, 1)))
def test_every_moment_lies_in_the_month_that_ends_after_it(now: int) -> None:
    ends = _month_end(now)
    assert now < ends <= now + 31 * 86_400_000
    assert _month(ends - 1) == _month(now) != _month(ends)


def test_a_month_has_one_key_and_the_next_another(periods: AuditPeriods) -> None:
    first = periods.current(NOVEMBER)
    assert (first.name, first.ends) == ("2026-11", _ms(2026, 12))
    assert periods.current(first.ends - 1) == first
    second = periods.current(first.ends)
    assert second.name == "2026-12"
    assert second.key != first.key
    assert [periods.find(each.name).key for each in (first, second)] == [first.key, second.key]
    assert _again(periods).find("2026-11").key == first.key
    assert first.key.hex() not in repr(first)


def test_its_file_holds_no_key_in_the_clear(periods: AuditPeriods) -> None:
    import base64

    key = periods.current(NOVEMBER).key
    data = periods._path.read_bytes()
    assert stat.S_IMODE(periods._path.stat().st_mode) == 0o600
    assert base64.b64encode(key) not in data
    assert key not in data


def test_a_key_opens_under_its_own_name_and_kek_only(
    periods: AuditPeriods, code: Callable[..., str]
) -> None:
    periods.current(NOVEMBER)
    periods.current(_ms(2026, 12))
    stranger = _again(periods, FileKek.of(bytes(32)))
    assert code(stranger.find, "2026-11") == "seal.wrong_key/1"
    document = json.loads(periods._path.read_bytes())
    one, two = document["periods"]
    one["wrapped"], two["wrapped"] = two["wrapped"], one["wrapped"]
    periods._path.write_text(json.dumps(document))
    assert code(_again(periods).find, "2026-11") == "seal.wrong_key/1"


def test_a_destroyed_period_is_gone_for_good(
    periods: AuditPeriods, code: Callable[..., str]
) -> None:
    ends = periods.current(NOVEMBER).ends
    periods.destroy("2026-11", ends)
    for each in (periods, _again(periods)):
        assert code(each.find, "2026-11") == "audit.period_destroyed/2"
        # Nor is a new key made in its place, even if the clock is set back.
        assert code(each.current, NOVEMBER) == "audit.period_destroyed/2"
    periods.destroy("2026-11", ends)
    assert json.loads(periods._path.read_bytes())["periods"][0]["wrapped"] is None


def test_a_period_that_still_runs_is_not_destroyed(
    periods: AuditPeriods, code: Callable[..., str]
) -> None:
    key = periods.current(NOVEMBER).key
    assert code(periods.destroy, "2026-11", NOVEMBER) == "audit.period_open/2"
    assert code(periods.destroy, "2026-11", _ms(2026, 12) - 1) == "audit.period_open/2"
    assert _again(periods).current(NOVEMBER).key == key
    assert code(periods.find, "1999-01") == "audit.unknown_period/2"
    assert code(periods.destroy, "1999-01", NOVEMBER) == "audit.unknown_period/2"


def test_threads_that_need_a_period_get_one(periods: AuditPeriods) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(periods.current(NOVEMBER).key))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {_again(periods).find("2026-11").key}


def test_a_period_that_cannot_be_written_is_not_used(
    tmp_path: Path, code: Callable[..., str]
) -> None:
    periods = AuditPeriods(tmp_path / "gone" / "periods.json", KEK)
    assert code(periods.current, NOVEMBER) == "file.missing/2"
    (tmp_path / "gone").mkdir()
    assert periods.current(NOVEMBER).name == "2026-11"


PERCENT = '"%%"'
ONE = '{"name":"2026-11","ends":1,"wrapped":null}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "json.malformed/2"),
        ("[]", "audit.malformed_periods/2"),
        ('{"schema":"keepstone.audit-periods/v2","periods":[]}', "audit.newer_version/2"),
        ('{"schema":"keepstone.audit-periods/v1"}', "audit.malformed_periods/2"),
        ('{"schema":"keepstone.audit-periods/v1","periods":7}', "audit.malformed_periods/2"),
        ('{"schema":"keepstone.audit-periods/v1","periods":[7]}', "audit.malformed_periods/2"),
        (
            '{"schema":"keepstone.audit-periods/v1","periods":[{"name":"a","ends":1}]}',
            "audit.malformed_periods/2",
        ),
        (
            f'{{"schema":"keepstone.audit-periods/v1","periods":[{ONE.replace("null", "7")}]}}',
            "audit.malformed_periods/2",
        ),
        (
            f'{{"schema":"keepstone.audit-periods/v1","periods":[{ONE.replace("null", PERCENT)}]}}',
            "audit.malformed_periods/2",
        ),
    ],
)
def test_a_file_that_does_not_list_periods_is_refused(
    tmp_path: Path, code: Callable[..., str], text: str, expected: str
) -> None:
    path = tmp_path / "periods.json"
    path.write_text(text)
    path.chmod(0o600)
    assert code(AuditPeriods, path, KEK) == expected


def test_the_pepper_opens_with_this_workspaces_kek_only(
    home: Any, code: Callable[..., str]
) -> None:
    assert code(load_pepper, home.layout, KEK) == "seal.wrong_key/1"


# What a destroyed period closes


def test_entries_of_a_destroyed_period_are_closed_and_the_ledger_still_verifies(
    home: Any, prediction: Callable[..., Any], code: Callable[..., str]
) -> None:
    entry = prediction(home, b"question", b"answer")
    assert prove_entry(home.site, entry, input=b"question", output=b"answer").input_matches
    period = home.entries("prediction")[0]["period"]
    given = {"period": period}
    assert code(perform, home.site, "ledger.forget", given) == "audit.period_open/2"
    home.clock.now += 40 * 86_400_000
    perform(home.site, "ledger.forget", given)

    assert code(prove_entry, home.site, entry) == "audit.period_destroyed/2"
    assert verify_ledger_of(home.site).errors == ()
    assert [event["period"] for event in home.events("audit.period_destroyed")] == [period]
    with home.open() as workspace:
        assert code(workspace.periods.find, period) == "audit.period_destroyed/2"


def test_an_entrys_key_opens_that_entry_alone(periods: AuditPeriods) -> None:
    key = periods.current(NOVEMBER).key
    assert entry_key(key, "00" * 16) != entry_key(key, "01" * 16)
