"""A model becomes a version: every step of a push, what each refuses, and what is left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.finding import Outcome
from keepstone.errors import KeepstoneError
from keepstone.evidence.modelsign import sign_model
from keepstone.identity.principal import Grant
from keepstone.vault.staging import stage
from keepstone.workspace.intake import Submission
from keepstone.workspace.registry import pushing
from keepstone.workspace.registry.registry import CollectRules, Push
from tests.workspace.observers import Silent
from tests.workspace.registry_shop import (
    LOCAL,
    opened,
    person,
    refused,
    weights,
    with_attributes,
)


class _Bad:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def _bad(home: Any) -> Path:
    path: Path = home.root / "bad.pkl"
    path.write_bytes(pickle.dumps(_Bad()))
    return path


def test_versions_are_numbered_from_one_and_never_change(home: Any) -> None:
    with opened(home) as shop:
        first = shop.push(1.0, note="the first").version
        second = shop.push(2.0).version
        other = shop.push(1.0, name="other").version
        assert [one.exact for one in (first, second, other)] == ["fraud@1", "fraud@2", "other@1"]
        assert (first.outcome, first.format, first.note) == (
            Outcome.CLEAN,
            "safetensors",
            "the first",
        )
    with opened(home) as shop:
        # What is read back from the ledger is what was answered.
        assert shop.workspace.book.catalogue().shelf("fraud").versions == (first, second)
    assert len(home.entries("registry")) == 3
    assert list(home.layout.staging.iterdir()) == []


def test_the_same_bytes_again_are_the_version_that_they_are(home: Any) -> None:
    with opened(home) as shop:
        first = shop.push(1.0)
        again = shop.push(1.0, who=person("bob"))
        assert (again.known, again.version, again.entry) == (True, first.version, None)
        assert len(shop.records()) == 1
        # A blob that was lost meanwhile is there again.
        shop.workspace.store.delete(first.version.digest, "fraud")
        shop.push(1.0)
        assert ("fraud", first.version.digest.hex) in shop.blobs()


def test_what_the_scan_flags_is_refused_recorded_and_not_kept(home: Any) -> None:
    with opened(home) as shop:
        asked = Push(Submission.of(_bad(home), name="fraud"))
        error = refused(shop.registry.push, LOCAL, asked, Silent())
        assert (error.code, int(error.exit_code)) == ("registry.flagged", 1)
        assert shop.blobs() == set()
        assert shop.records() == []
        assert shop.accesses()[-1]["outcome"] == "registry.flagged"
        assert [entry["predicate"] for entry in _statements(home)] == ["scan"]


def test_a_large_one_that_is_flagged_is_dropped_after_it_was_sealed_meanwhile(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This fails if what was sealed beside the scan stays when the scan says no."""
    monkeypatch.setattr(pushing, "_LARGE", 0)
    with opened(home) as shop:
        asked = Push(Submission.of(_bad(home), name="fraud"))
        assert refused(shop.registry.push, LOCAL, asked, Silent()).code == "registry.flagged"
        assert shop.blobs() == set()
        assert shop.push(1.0).version.exact == "fraud@1"
        assert len(shop.blobs()) == 1


def _statements(home: Any) -> list[dict[str, Any]]:
    from keepstone.workspace.history import newest

    return [entry for entry in newest(home.site, 99) if entry["kind"] == "statement"]


def test_what_was_not_judged_is_kept_and_nothing_may_point_to_it(home: Any) -> None:
    path = home.root / "unknown.bin"
    path.write_bytes(os.urandom(64))
    with opened(home) as shop:
        asked = Push(Submission.of(path, name="odd"))
        version = shop.registry.push(LOCAL, asked, Silent()).version
        assert version.outcome is Outcome.NOT_EVALUATED
        assert refused(shop.registry.alias, LOCAL, "odd@1", "best").code == "gate.denied"
        assert refused(shop.registry.promote, LOCAL, "odd@1", "staging").code == "gate.denied"
        assert refused(shop.registry.pull, LOCAL, "odd@1").code == "gate.denied"
        assert shop.registry.pull(LOCAL, "odd@1", examine="to see what it is").version == version


def test_a_folder_comes_in_as_it_is(home: Any, tmp_path: Path) -> None:
    folder = home.root / "bundle"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights(1.0))
    (folder / "sub" / "notes.txt").write_text("hello")
    with opened(home) as shop:
        pushed = shop.registry.push(LOCAL, Push(Submission.of(folder, name="b")), Silent()).version
        assert pushed.files == 2
        pulled = shop.registry.pull(LOCAL, "b@1")
        shop.registry.write_out(pulled.release, home.root / "out")
    assert (home.root / "out" / "sub" / "notes.txt").read_text() == "hello"
    assert (home.root / "out" / "model.safetensors").read_bytes() == weights(1.0)


def test_the_publishers_signature_beside_it_is_observed(home: Any) -> None:
    with opened(home) as shop:
        model = shop.model(1.0)
        bundle = sign_model(model, home.keys["alice"])
        (home.root / (model.name + ".sig")).write_bytes(bundle)
        shop.push(1.0)
        shown = shop.registry.show(LOCAL, "fraud@1")
    assert [item["kind"] for item in shown["evidence"]] == ["scan", "signature", "sealing"]
    assert "origin" not in shown["gate"]["not_proven"]


def test_a_copy_that_was_staged_already_is_taken_as_it_is(home: Any) -> None:
    with opened(home) as shop:
        staged = stage(shop.model(1.0), home.layout.staging)
        asked = Push(Submission(staged.path, "fraud"), staged=staged)
        version = shop.registry.push(LOCAL, asked, Silent()).version
        assert version.digest == staged.digest
        assert staged.path.exists()
        staged.discard()


# What a version says of itself


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"team": "risk"},
        {"team": "risk", "data_class": "secret"},
        {"team": "risk", "data_class": "public", "more": "x"},
        {"team": "ri sk", "data_class": "public"},
        {"team": "rіsk", "data_class": "public"},  # noqa: RUF001  # a Cyrillic letter
        {"team": "risk", "data_class": "public", "stage": "production"},
    ],
)
def test_attributes_are_those_that_the_policy_asks_for(home: Any, given: dict[str, str]) -> None:
    with_attributes(home)
    with opened(home) as shop:
        code = refused(shop.push, attributes=given).code
        assert code in ("registry.attributes", "name.invalid")
        assert shop.records() == []
        shop.push(attributes={"team": "risk", "data_class": "public"})
        other = {"team": "sales", "data_class": "public"}
        assert refused(shop.push, attributes=other).code == "registry.attributes_differ"
        assert len(shop.blobs()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../x",
        "a/b",
        "http://x/y",
        "Fraud",
        "fr\u0430ud",
        "a" * 65,
        "a\nb",
        "a\x1b[2J",
        "a@b",
        "*",
    ],  # look-alikes
)
def test_hostile_names_are_refused_and_recorded_harmlessly(home: Any, name: str) -> None:
    with opened(home) as shop:
        asked = Push(Submission(shop.model(), name))
        assert refused(shop.registry.push, LOCAL, asked, Silent()).code == "name.invalid"
        for action in ("pull", "show"):
            error = refused(getattr(shop.registry, action), LOCAL, f"{name}@1")
            assert error.family == "input"
        said = shop.accesses()
    assert len(said) == 3
    assert all(str(one["asked"]).isascii() and str(one["asked"]).isprintable() for one in said)


def test_who_may_not_push_pushes_nothing(home: Any) -> None:
    with opened(home) as shop:
        for who in (
            person("eve", Grant("puller")),
            person("eve", Grant("pusher", ("other",))),
            person("eve", Grant("pusher", ("fraud",), versions=(2,))),
        ):
            assert refused(shop.push, who=who).code == "policy.denied"
        assert list(home.layout.staging.glob("*")) == []
        assert [entry["kind"] for entry in _statements(home)] == []
        assert {one["outcome"] for one in shop.accesses()} == {"policy.denied"}
        shop.push(1.0, who=person("bob", Grant("pusher", ("fraud",), versions=(1,))))


# Quotas


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_models = 10000", "max_models = 1"),
        ("max_version_bytes = 68719476736", "max_version_bytes = 10"),
        ("max_bytes = 1099511627776", "max_bytes = 300"),
    ],
)
def test_a_full_registry_says_so_and_keeps_nothing(home: Any, old: str, new: str) -> None:
    home.edit_policy(old, new)
    with opened(home) as shop:
        codes = []
        for number, name in enumerate(("fraud", "other", "third")):
            try:
                shop.push(float(number), name=name)
            except KeepstoneError as error:
                codes.append(error.code)
        assert set(codes) == {"registry.quota"}
        assert len(shop.blobs()) == len(shop.records())
        assert list(home.layout.staging.iterdir()) == []


def test_a_model_takes_so_many_versions_and_collecting_makes_room(home: Any) -> None:
    home.edit_policy("max_versions = 10000", "max_versions = 2")
    with opened(home) as shop:
        shop.push(1.0)
        shop.push(2.0)
        assert refused(shop.push, 3.0).code == "registry.quota"
        assert shop.registry.collect(LOCAL, CollectRules(keep=1)).versions[0].exact == "fraud@1"
        assert shop.push(3.0).version.number == 3


def test_the_room_is_asked_for_again_under_the_lock(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This fails if a push that began while there was room is recorded when there is none."""
    home.edit_policy("max_versions = 10000", "max_versions = 1")
    with opened(home) as shop:
        real = pushing._judged_and_sealed

        def slow(intake: Any) -> Any:
            monkeypatch.setattr(pushing, "_judged_and_sealed", real)
            shop.push(2.0)
            return real(intake)

        monkeypatch.setattr(pushing, "_judged_and_sealed", slow)
        assert refused(shop.push, 1.0).code == "registry.quota"
        assert [one["number"] for one in shop.records()] == [1]
        # What the refused push had sealed is gone again.
        assert len(shop.blobs()) == 1


def test_without_a_registry_in_the_policy_there_is_none(home: Any) -> None:
    text = home.layout.policy.read_text()
    start, end = text.index("[registry]"), text.index("[tokens]")
    home.layout.policy.write_text(text[:start] + text[end:])
    with opened(home) as shop:
        for action in (
            lambda: shop.push(),
            lambda: shop.registry.pull(LOCAL, "fraud@1"),
            lambda: shop.registry.list(LOCAL),
            lambda: shop.registry.collect(LOCAL, CollectRules()),
        ):
            error = refused(action)
            assert (error.code, int(error.exit_code)) == ("registry.not_in_policy", 1)


# Two at once, and pushes that are cut short


def test_two_writers_on_one_name_get_one_number_each(home: Any) -> None:
    with opened(home) as shop:
        models = {value: shop.model(value) for value in (1.0, 2.0, 3.0, 4.0)}
        found: list[int] = []

        def bring(value: float) -> None:
            asked = Push(Submission.of(models[value], name="fraud"))
            found.append(shop.registry.push(LOCAL, asked, Silent()).version.number)

        threads = [threading.Thread(target=bring, args=(value,)) for value in models]
        threads += [threading.Thread(target=bring, args=(1.0,))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        # The same bytes twice are one version, whoever was first.
        assert sorted(set(found)) == [1, 2, 3, 4]
        assert len(found) == 5
        assert len(shop.blobs()) == 4
    with opened(home) as shop:
        for number in (1, 2, 3, 4):
            pulled = shop.registry.pull(LOCAL, f"fraud@{number}")
            shop.registry.write_out(pulled.release, home.root / f"out{number}")


def test_two_processes_on_one_name_are_ordered_by_the_ledger(home: Any) -> None:
    for number in range(3):
        (home.root / f"p{number}.safetensors").write_bytes(weights(float(number)))
    code = "from keepstone.cli.main import main; main()"
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", code, "push", str(home.root / f"p{number}.safetensors")),
                *("--name", "fraud", "--workspace", str(home.layout.root)),
            ],
            env=os.environ | {"KEEPSTONE_OUTSIDE": str(home.site.outside)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(3)
    ]
    said = [child.communicate(timeout=120) for child in running]
    assert [child.returncode for child in running] == [0, 0, 0], said
    assert sorted(out.decode().strip() for out, _ in said) == ["fraud@1", "fraud@2", "fraud@3"]


_STEPS = {
    "staged": "keepstone.workspace.intake:Intake.scan",
    "scanned": "keepstone.workspace.intake:Intake.take_origin",
    "before the sealing is on the record": "keepstone.workspace.intake:Intake.seal",
    "before the blob": "keepstone.workspace.sealing:seal",
    "half a blob": "keepstone.vault.chunked:_Batch.seal",
    "before the entry": "keepstone.workspace.book:Book.write",
}


@pytest.mark.parametrize("step", _STEPS)
def test_a_push_killed_at_any_step_leaves_nothing_half_visible(home: Any, step: str) -> None:
    """SIGKILL of the pushing process; then another one opens the workspace."""
    model = home.root / "w.safetensors"
    model.write_bytes(weights(7.0))
    module, _, name = _STEPS[step].partition(":")
    script = f"""
        import importlib, os, signal
        from pathlib import Path
        holder = importlib.import_module({module!r})
        *path, last = {name!r}.split(".")
        for part in path:
            holder = getattr(holder, part)
        setattr(holder, last, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
        from keepstone.workspace.intake import Submission
        from keepstone.workspace.layout import Layout
        from keepstone.workspace.opened import open_workspace
        from keepstone.workspace.registry.callers import local_principal
        from keepstone.workspace.registry.registry import Push, Registry
        from keepstone.workspace.site import Site
        from tests.workspace.observers import Silent
        site = Site(Layout(Path({str(home.layout.root)!r})), Path({str(home.site.outside)!r}))
        with open_workspace(site) as workspace:
            asked = Push(Submission.of(Path({str(model)!r}), name="fraud"))
            Registry(workspace).push(local_principal(os.geteuid()), asked, Silent())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    home.clock.now = 1_900_000_000_000
    with opened(home) as shop:
        assert shop.registry.list(LOCAL).versions == ()
        assert refused(shop.registry.show, LOCAL, "fraud").code == "registry.not_found"
        assert list(home.layout.staging.iterdir()) == []
        shop.registry.collect(LOCAL, CollectRules())
        assert shop.blobs() == set()
        # The next push is the first version, as if nothing had been.
        asked = Push(Submission.of(model, name="fraud"))
        assert shop.registry.push(LOCAL, asked, Silent()).version.exact == "fraud@1"
        pulled = shop.registry.pull(LOCAL, "fraud@1")
        shop.registry.write_out(pulled.release, home.root / "out")


def test_a_full_disk_loses_nothing_and_shows_nothing(
    home: Any, small_disk: Callable[..., Path]
) -> None:
    with opened(home) as shop:
        shop.push(1.0)
    vault = home.layout.vault
    kept = {path.relative_to(vault): path.read_bytes() for path in vault.rglob("*.sealed")}
    small_disk(vault, 1)
    for path, data in kept.items():
        (vault / path).parent.mkdir(parents=True, exist_ok=True)
        (vault / path).write_bytes(data)
    large = home.root / "large.safetensors"
    large.write_bytes(weights(2.0, count=1 << 20))
    with opened(home) as shop:
        asked = Push(Submission.of(large, name="fraud"))
        error = refused(shop.registry.push, LOCAL, asked, Silent())
        assert (error.code, int(error.exit_code)) == ("disk.full", 3)
        assert [one["number"] for one in shop.registry.list(LOCAL).versions] == [1]
        assert [path for path in vault.rglob("*") if path.is_file()] == [
            vault / path for path in kept
        ]
        shop.registry.write_out(shop.registry.pull(LOCAL, "fraud@1").release, home.root / "out")
        assert shop.push(3.0).version.number == 2


def test_an_entry_that_cannot_be_written_leaves_no_version(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keepstone.errors import OperationalError

    with opened(home) as shop:
        shop.push(1.0)
        real = shop.workspace.ledger.append

        def full(body: bytes, hold: bool = False) -> Any:
            if b'"op":"pushed"' in body:
                raise OperationalError("ledger.disk_full", "No room is left.")
            return real(body, hold)

        with monkeypatch.context() as failing:
            failing.setattr(shop.workspace.ledger, "append", full)
            assert refused(shop.push, 2.0).code == "ledger.disk_full"
            assert len(shop.registry.list(LOCAL).versions) == 1
        assert shop.push(2.0).version.number == 2


def test_the_book_reads_again_what_turned_out_to_be_written(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append that was not acknowledged and is on the disk all the same.

    This fails if the catalogue believes the error: the next number would be given out twice.
    """
    from keepstone.errors import OperationalError

    with opened(home) as shop:
        shop.push(1.0)
        real = shop.workspace.ledger.append

        class Lost:
            def __init__(self, pending: Any) -> None:
                self.pending = pending

            def wait(self, seconds: float) -> int:
                self.pending.wait(seconds)
                raise OperationalError("ledger.not_durable", "Nobody knows.")

        def unsure(body: bytes, hold: bool = False) -> Any:
            pending = real(body, hold)
            return Lost(pending) if b'"op":"pushed"' in body else pending

        with monkeypatch.context() as failing:
            failing.setattr(shop.workspace.ledger, "append", unsure)
            assert refused(shop.push, 2.0).code == "ledger.not_durable"
        assert len(shop.registry.list(LOCAL).versions) == 2
        assert shop.push(2.0).known
        assert shop.push(3.0).version.number == 3


def test_a_push_under_way_is_not_collected(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """This fails if a blob that nobody names yet is an orphan while its push goes on."""
    with opened(home) as shop:
        shop.push(1.0)
        real = pushing._judged_and_sealed

        def meanwhile(intake: Any) -> Any:
            found = real(intake)
            assert shop.registry.collect(LOCAL, CollectRules()).orphans == ()
            return found

        monkeypatch.setattr(pushing, "_judged_and_sealed", meanwhile)
        version = shop.push(2.0).version
        assert ("fraud", version.digest.hex) in shop.blobs()


def test_a_push_is_asked_for_its_right_again_when_it_is_recorded(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number it was allowed for may be another one's by then."""
    with opened(home) as shop:
        real = pushing._judged_and_sealed

        def slow(intake: Any) -> Any:
            monkeypatch.setattr(pushing, "_judged_and_sealed", real)
            shop.push(2.0)
            return real(intake)

        monkeypatch.setattr(pushing, "_judged_and_sealed", slow)
        bob = person("bob", Grant("pusher", ("fraud",), versions=(1,)))
        assert refused(shop.push, 1.0, who=bob).code == "policy.denied"
        assert len(shop.blobs()) == 1


def test_a_note_is_one_line_and_that_is_known_before_anything_is_taken(home: Any) -> None:
    with opened(home) as shop:
        for note in ("a\nb", "a\x1b[2J", "a\u202eb", "n" * 501):
            assert refused(shop.push, note=note).code == "registry.no_reason"
        assert _statements(home) == []


def test_the_same_bytes_at_once_are_sealed_one_after_the_other(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This fails if the blob of an earlier number may be written over that of a later one."""
    from keepstone.workspace import sealing

    with opened(home) as shop:
        model, real, order = shop.model(1.0), sealing.seal, []

        def slow(staged: Any, store: Any, kek: Any, name: str, number: int) -> Any:
            order.append(number)
            if len(order) == 1:
                # Long enough for the other one to come past, if it may.
                other.start()
                other.join(1)
            return real(staged, store, kek, name, number)

        def bring() -> None:
            asked = Push(Submission.of(model, name="fraud"))
            shop.registry.push(LOCAL, asked, Silent())

        other = threading.Thread(target=bring)
        monkeypatch.setattr(sealing, "seal", slow)
        bring()
        other.join(60)
        assert order == [1]
        shop.registry.write_out(shop.registry.pull(LOCAL, "fraud@1").release, home.root / "out")
