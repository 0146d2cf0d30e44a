"""`keepstone attack` as people run it: files, a real endpoint, a policy that asks for a test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.lab.fakes import Linear, halves
from tests.nets import CLASSES, WIDTH, save

REQUIRE = """
[[require]]
evidence = "robustness"
role = "red-team"
norm = "linf"
eps = 0.001
at_least = 0.5
"""


@pytest.fixture
def net(place: Any) -> Path:
    """A small network, and samples `data.npz` that it labels itself, but for every tenth."""
    path = save(place.root / "net.onnx", 1)
    session = onnxruntime.InferenceSession(path.read_bytes())
    x = np.random.default_rng(0).uniform(0, 1, (150, session.get_inputs()[0].shape[1]))
    x = x.astype(np.float32)
    y = session.run(["label"], {session.get_inputs()[0].name: x})[0]
    y[::10] = (y[::10] + 1) % CLASSES
    np.savez(place.root / "data.npz", x=x, y=y)
    return path


def attack(place: Any, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = place.run("attack", *arguments, "--format", "json")
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_file_is_attacked_and_the_json_is_what_is_promised(place: Any, net: Path) -> None:
    report = place.root / "report.html"
    asked = ("--norm", "linf", "--eps", "0.001", "--eps", "0.2", "--budget", "60")
    status, found = attack(place, net, "--data", "data.npz", *asked, "--report", report)
    assert found["schema"] == "keepstone.attack/v1"
    assert found["clean_accuracy"] == 0.9
    near, far = found["robust_accuracy"]
    assert (near["norm"], near["eps"], far["eps"], near["n"]) == ("linf", 0.001, 0.2, 150)
    assert near["low"] <= near["value"] <= near["high"] <= 1
    assert near["value"] >= far["value"]
    assert found["attacks"]
    assert all(one["queries_max"] <= one["budget"] <= 60 for one in found["attacks"])
    # Nothing that so few queries leave standing passes for robust.
    assert (status, found["verdict"]) in ((1, "fail"), (3, "insufficient"))
    # Who has the file has its gradient.
    assert found["attacks"][0]["name"] == "white-box"
    assert found["attacks"][0]["gradients"] > 0
    assert report.read_text().startswith("<!doctype html>")
    again = attack(place, net, "--data", "data.npz", *asked)[1]
    for one in (*found["attacks"], *again["attacks"]):
        del one["cpu_s"]
    assert again == found


@pytest.mark.slow
@pytest.mark.loopback
def test_a_policy_asks_for_a_test_and_a_red_team_brings_it(
    place: Any, net: Path, error_code: Any
) -> None:
    place.must("init")
    key = place.signer("rita", "red-team")
    policy = place.workspace / "policy.toml"
    policy.write_text(policy.read_text() + REQUIRE)
    done = place.run("up", net, "--port", "0")
    assert (done.returncode, error_code(done)) == (1, "gate.denied")
    assert "It needs a robust accuracy of 0.5 or more within linf 0.001" in done.stderr
    assert "keepstone attack MODEL --data FILE --norm linf --eps 0.001" in done.stderr

    asked = (net, "--data", "data.npz", "--as", key)
    # A test at a smaller perturbation is no answer to what is asked.
    status, _ = attack(place, *asked, "--norm", "linf", "--eps", "0.0001")
    assert status == 0
    done = place.run("up", net, "--port", "0")
    assert "looked at perturbations up to 0.0001 only" in done.stderr
    status, found = attack(place, *asked, "--norm", "linf", "--eps", "0.001")
    assert (status, found["verdict"]) == (0, "pass")
    assert found["statement"]["entry"].startswith("ks-")
    served = place.up(model=net)
    assert "robustness" not in json.dumps(served.get("not_proven", []))
    place.stop()
    # Another file under the same name was tested by nobody.
    save(net, 2)
    done = place.run("up", net, "--port", "0")
    assert (done.returncode, error_code(done)) == (1, "gate.denied")


def test_a_statement_can_be_taken_elsewhere(place: Any, net: Path, error_code: Any) -> None:
    place.must("init")
    key = place.signer("rita", "red-team")
    out = place.root / "net.onnx.statements.jsonl"
    asked = ("--budget", "20", "--norm", "linf", "--eps", "0.001")
    stated = ("--as", key, "--statement", out, "--name", "other", "--lifetime", "1h")
    attack(place, net, "--data", "data.npz", *asked, *stated)
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["payloadType"] == "application/vnd.in-toto+json"


def test_what_is_no_pickle_or_clean_is_not_opened(place: Any, net: Path, error_code: Any) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, (f"open({str(place.root / 'fired')!r}, 'w')",)

    (place.root / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    done = place.run("attack", "bomb.pkl", "--data", "data.npz")
    assert (done.returncode, error_code(done)) == (1, "target.flagged")
    assert not (place.root / "fired").exists()


@pytest.mark.loopback
def test_an_endpoint_is_attacked_within_its_limits(place: Any, net: Path, error_code: Any) -> None:
    place.must("init")
    served = place.up("--name", "net", model=net)
    place.must(
        *("keys", "create", "user:rita", "--role", "red-team", "--model", "net"),
        *("--out", place.root / "rita.key"),
    )
    place.must(
        *("keys", "create", "user:carl", "--role", "caller", "--model", "net"),
        *("--out", place.root / "caller.key"),
    )
    asked = ("--model", "net", "--ca", served["ca"], "--data", "data.npz")
    given = ("--low", "0", "--high", "1", "--norm", "linf", "--eps", "0.2", "--budget", "10")
    key = ("--key-file", "rita.key")
    status, found = attack(place, served["url"], *asked, *given, *key)
    assert status in (1, 3)
    assert found["clean_accuracy"] == 0.9
    assert "digest" not in found
    # A key that may only predict is not told what the model takes.
    done = place.run("attack", served["url"], *asked, *given)
    assert (done.returncode, error_code(done)) == (3, "target.refused")
    done = place.run("attack", served["url"], *asked, *given, "--key-file", "caller.key")
    assert (done.returncode, error_code(done)) == (3, "target.refused")
    assert "whose role grants model.read and model.predict" in done.stderr
    # Nobody can say which file an address serves.
    signed = place.run("attack", served["url"], *asked, *given, *key, "--as", "x.pem")
    assert signed.returncode == 2


@pytest.mark.slow
def test_what_cannot_be_used_has_a_code(place: Any, net: Path, error_code: Any) -> None:
    np.savez(place.root / "wide.npz", x=np.zeros((9, 3)), y=np.zeros(9, int))
    data = np.load(place.root / "data.npz")
    np.savez(place.root / "odd.npz", x=data["x"], y=data["y"] + 7)
    np.savez(place.root / "far.npz", x=data["x"] + 900, y=data["y"])
    np.savez(place.root / "flipped.npz", x=data["x"], y=(data["y"] + 1) % CLASSES)
    np.savez(place.root / "few.npz", x=data["x"][:20], y=data["y"][:20])
    given: Any
    for given, expected in (
        (("--data", "wide.npz"), (2, "attack.other_inputs")),
        (("--data", "odd.npz"), (2, "target.bad_labels")),
        (("--data", "far.npz"), (2, "attack.other_inputs")),
        (("--data", "nothing.npz"), (3, "data.unreadable")),
        (("--data", "data.npz", "--eps", "0.1"), (2, "attack.no_norm")),
        (("--data", "data.npz", "--norm", "l7", "--eps", "1"), (2, "attack.bad_norm")),
        (("--data", "data.npz", "--norm", "linf", "--eps", "-1"), (2, "attack.bad_eps")),
        (("--data", "data.npz", "--at-least", "7"), (2, "attack.bad_limit")),
    ):
        done = place.run("attack", net, *given)
        assert (done.returncode, error_code(done)) == expected, (given, done.stderr)
    quick = ("--norm", "linf", "--eps", "0.01", "--budget", "5")
    status, found = attack(place, net, "--data", "flipped.npz", *quick)
    assert (status, found["verdict"]) == (3, "invalid")
    assert "attack.labels_mismatch" in [one["code"] for one in found["problems"]]
    status, found = attack(place, net, "--data", "few.npz", *quick)
    assert (status, found["verdict"]) == (3, "insufficient")


@pytest.mark.slow
def test_a_run_goes_on_from_where_it_was(place: Any, net: Path, error_code: Any) -> None:
    asked = (net, "--data", "data.npz", "--norm", "linf", "--eps", "0.2", "--budget", "50")
    first = attack(place, *asked, "--resume", "done")[1]
    second = attack(place, *asked, "--resume", "done")[1]
    # What was done is not done again: even its time is what it was.
    assert second == first
    done = place.run("attack", *asked, "--seed", "1", "--resume", "done")
    assert (done.returncode, error_code(done)) == (2, "attack.other_run")


def test_a_run_is_of_one_architecture_and_of_its_code() -> None:
    from keepstone.cli.attack import _run_digest
    from keepstone.cli.attacking import Attacked
    from keepstone.core.digest import Digest
    from keepstone.core.subject import Subject
    from keepstone.lab.norms import LINF
    from keepstone.lab.samples import Samples
    from keepstone.lab.suites.catalogue import suite_called
    from keepstone.lab.suites.question import Question
    from keepstone.lab.targets.classes import Classes
    from keepstone.workspace.lab.attacking import Wanted

    x = np.random.default_rng(0).uniform(0, 1, (20, 2))
    samples = Samples(x, np.arange(20) % 2, Digest.of(b"rows"), ())
    names = Classes.of(samples.y, 2, ())
    plain = halves()

    def digest(target: Linear, architecture: str) -> Digest:
        subject = Subject("m", Digest.of(b"m"))
        attacked = Attacked("m", subject, target, names, Wanted(architecture))
        asked = Question(LINF, (0.1,), 20)
        return _run_digest(attacked, samples, suite_called("quick"), asked, None)

    edited = Linear(plain.weights * 1.01, plain.bias)
    found = [digest(plain, "a:B"), digest(plain, "a:C"), digest(edited, "a:B")]
    assert len(set(found)) == 3
    assert digest(halves(), "a:B") == found[0]


@pytest.mark.slow
def test_workers_find_the_same_however_many(place: Any, net: Path, error_code: Any) -> None:
    x = np.random.default_rng(5).uniform(-3, 3, (300, WIDTH)).astype(np.float32)
    y = onnxruntime.InferenceSession(net.read_bytes()).run(["label"], {"x": x})[0]
    np.savez(place.root / "many.npz", x=x, y=y)
    asked = (net, "--data", "many.npz", "--samples", 300, "--norm", "linf", "--eps", "0.2")
    asked += ("--budget", "20")
    found = [
        attack(place, *asked, "--workers", count, "--resume", f"done{count}")[1] for count in (1, 2)
    ]
    # What is kept is not done again: even its time is what it was, whoever goes on.
    again = attack(place, *asked, "--workers", "2", "--resume", "done1")[1]
    assert again == found[0]
    for one in (one for each in found for one in each["attacks"]):
        del one["cpu_s"]
    assert found[0] == found[1]
    assert (found[0]["shards"], found[0]["clean"]["n"]) == (256, 300)
    # What is kept of a run in parts is none of a whole run.
    done = place.run("attack", *asked, "--resume", "done1")
    assert (done.returncode, error_code(done)) == (2, "attack.other_run")


def test_what_cannot_be_spread_has_an_answer(place: Any, net: Path, error_code: Any) -> None:
    given: Any
    at = ("https://127.0.0.1:1", "--model", "net", "--data", "data.npz")
    for given, expected in (
        ((*at, "--workers", "2"), (2, "attack.not_spread")),
        ((*at, "--ray", "auto"), (2, "attack.not_spread")),
        ((net, "--data", "data.npz", "--ray", "local"), (2, "attack.bad_cluster")),
    ):
        done = place.run("attack", *given)
        assert (done.returncode, error_code(done)) == expected, (given, done.stderr)
    both = (net, "--data", "data.npz", "--ray", "auto", "--workers", "2")
    assert place.run("attack", *both).returncode == 2
    assert place.run("attack", net, "--data", "data.npz", "--workers", "0").returncode == 2


# Ended


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_an_attack_that_is_terminated_leaves_no_copy_of_the_model(
    place: Any, net: Path, workers: tuple[str, ...]
) -> None:
    temporary = place.root / "temporary"
    temporary.mkdir()
    asked = ("--norm", "linf", "--eps", "0.01", "--suite", "full", *workers)
    process = subprocess.Popen(
        [sys.executable, "-m", "keepstone.cli", "attack", net, "--data", "data.npz", *asked],
        env=place.environment | {"TMPDIR": str(temporary)},
        cwd=place.root,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    place.running.append(process)
    copy = "keepstone-attack-*/staging/*"
    wanted = f"keepstone-workers-*/*/{copy}" if workers else copy
    last = time.monotonic() + 40
    while not list(temporary.glob(wanted)):
        assert process.poll() is None
        assert time.monotonic() < last
        time.sleep(0.02)
    process.terminate()
    _, told = process.communicate(timeout=40)
    assert (process.returncode, told.splitlines()[-1]) == (143, "Terminated.")
    assert "Traceback" not in told
    # Libraries may leave files of their own there.
    assert list(temporary.glob("keepstone-*")) == []


# Privacy and extraction


@pytest.mark.slow
def test_members_are_told_and_a_policy_asks_how_many(
    place: Any, net: Path, error_code: Any
) -> None:
    """A network of random weights was trained on nothing, so that nothing can be told."""
    x = np.random.default_rng(5).uniform(-3, 3, (1200, WIDTH)).astype(np.float32)
    y = onnxruntime.InferenceSession(net.read_bytes()).run(["label"], {"x": x})[0]
    for name, part in (("in.npz", slice(600)), ("out.npz", slice(600, None))):
        np.savez(place.root / name, x=x[part], y=y[part])
    place.must("init")
    key = place.signer("rita", "red-team")
    rows = ("membership", net, "--members", "in.npz", "--nonmembers", "out.npz")
    status, found = attack(place, *rows, "--as", key)
    # The crudest attack alone vouches for nothing.
    assert (status, found["schema"]) == (3, "keepstone.membership/v1")
    assert (found["attack"], found["shadows"]) == ("loss-threshold", 0)
    assert [one["code"] for one in found["problems"]] == ["attack.crudest_alone"]
    (told,) = [one for one in found["tpr_at"] if one["fpr"] == 0.01]
    assert told["low"] <= told["value"] <= told["high"] <= 0.1
    assert found["statement"]["entry"].startswith("ks-")
    # So few rows say nothing of one in a thousand.
    assert attack(place, *rows, "--at-most", "0.1@0.001")[0] == 3

    (place.root / "trainer.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "def fit(x, y, seed):\n"
        "    return LogisticRegression(max_iter=50, C=0.1).fit(x, y)\n"
    )
    place.environment["PYTHONPATH"] = f"{place.root}:{place.environment.get('PYTHONPATH', '')}"
    shadows = ("--train", "trainer:fit", "--shadows", "2", "--kept", "shadows.npz")
    status, found = attack(place, *rows, *shadows)
    assert (status, found["verdict"]) == (0, "pass")
    assert (found["attack"], found["shadows"]) == ("rmia", 2)
    four = (*shadows[:3], "4", *shadows[4:])
    status, found = attack(place, *rows, *four)
    assert (found["attack"], found["shadows"]) == ("conditional-lira", 4)
    assert (place.root / "shadows.npz").exists()
    for wrong in (("--train", "trainer:nothing", "--shadows", "2"), ("--shadows", "2")):
        done = place.run("attack", *rows, *wrong)
        assert (done.returncode, error_code(done)[:11]) == (2, "attack.bad_")
    assert place.run("attack", *rows, "--at-most", "lots").returncode == 2


def test_copies_are_made_and_told(place: Any, net: Path, error_code: Any) -> None:
    x = np.random.default_rng(5).uniform(-3, 3, (600, WIDTH)).astype(np.float32)
    y = onnxruntime.InferenceSession(net.read_bytes()).run(["label"], {"x": x})[0]
    np.savez(place.root / "rows.npz", x=x, y=y)
    asked = ("extract", net, "--data", "rows.npz", "--attack", "knockoff", "--budget", "60")
    status, found = attack(place, *asked, "--budget", "250")
    # Nothing was asked that could be passed.
    assert (status, found["verdict"]) == (3, "insufficient")
    assert [one["code"] for one in found["problems"]] == ["attack.no_bar"]
    assert found["schema"] == "keepstone.extraction/v1"
    ((fewer, more),) = [one["curve"] for one in found["attacks"]]
    assert (fewer["queries"], more["queries"]) == (60, 250)
    assert more["agreement"]["value"] > fewer["agreement"]["value"]
    assert attack(place, *asked, "--at-most", "0.1")[0] == 1
    status, found = attack(place, *asked, "--at-most", "1")
    assert (status, found["verdict"], found["problems"]) == (0, "pass", [])
    done = place.run("attack", *asked)
    assert done.stdout.startswith("insufficient: no bar was set")
    assert "attack.no_bar" in done.stderr
    # A hundred held-out rows are the fewest that say anything.
    np.savez(place.root / "few.npz", x=x[:50], y=y[:50])
    few = ("extract", net, "--data", "few.npz", "--attack", "knockoff", "--budget", "10")
    assert attack(place, *few, "--at-most", "1")[0] == 3


@pytest.mark.slow
def test_one_report_carries_the_curves_of_one_model(place: Any, net: Path, error_code: Any) -> None:
    x = np.random.default_rng(5).uniform(-3, 3, (1200, WIDTH)).astype(np.float32)
    y = onnxruntime.InferenceSession(net.read_bytes()).run(["label"], {"x": x})[0]
    for name, part in (("in.npz", slice(600)), ("out.npz", slice(600, None))):
        np.savez(place.root / name, x=x[part], y=y[part])
    asked = ("extract", net, "--data", "in.npz", "--attack", "knockoff", "--report", "copies.html")
    found = attack(place, *asked, "--at-most", "1")[1]
    assert found["verdict"] == "pass"
    assert found["digest"].startswith("sha256:")
    assert "copycat: not asked for" in found["not_evaluated"]
    (place.root / "copies.json").write_text(json.dumps(found))
    page = (place.root / "copies.html").read_text()
    assert page.count("<svg") == 2
    assert found["digest"] in page
    audit = ("membership", net, "--members", "in.npz", "--nonmembers", "out.npz")
    both = ("--report", "both.html", "--with", "copies.json")
    found = attack(place, *audit, *both)[1]
    assert len(found["histogram"]["edges"]) == 31
    (place.root / "members.json").write_text(json.dumps(found))
    assert (place.root / "both.html").read_text().count("<svg") == 4
    quick = (net, "--data", "data.npz", "--norm", "linf", "--eps", "0.01", "--budget", "5")
    several = ("--report", "all.html", "--with", "copies.json", "--with", "members.json")
    attack(place, *quick, *several)
    assert (place.root / "all.html").read_text().count("<svg") == 7
    # Of another model, of something else, or for no report.
    (place.root / "odd.json").write_text(json.dumps({"schema": "keepstone.attack/v1"}))
    other = save(place.root / "other.onnx", 2)
    given: Any
    for given, expected in (
        ((other, *quick[1:], *several, "--force"), (2, "report.other_model")),
        ((*quick, "--report", "x.html", "--with", "odd.json"), (2, "report.bad_document")),
        ((*quick, "--report", "x.html", "--with", "nothing.json"), (2, "file.unreadable")),
        ((*audit[:1], other, *audit[2:], *both, "--force"), (2, "report.other_model")),
        (
            ("extract", other, *asked[2:], "--with", "copies.json", "--force"),
            (2, "report.other_model"),
        ),
    ):
        done = place.run("attack", *given)
        assert (done.returncode, error_code(done)) == expected, (given, done.stderr)
    assert not (place.root / "x.html").exists()
    assert place.run("attack", *quick, "--with", "copies.json").returncode == 2


@pytest.mark.slow
def test_an_attacker_keeps_to_constraints(place: Any, net: Path, error_code: Any) -> None:
    said = {"schema": "keepstone.constraints/v1", "immutable": list(range(WIDTH))}
    (place.root / "all.json").write_text(json.dumps(said))
    asked = (net, "--data", "data.npz", "--norm", "linf", "--eps", "2")
    free = attack(place, *asked)[1]["robust_accuracy"][0]["value"]
    held = attack(place, *asked, "--constraints", "all.json")[1]["robust_accuracy"][0]["value"]
    # Who may change nothing breaks nothing.
    assert free < held == 0.9
    (place.root / "odd.json").write_text("{}")
    done = place.run("attack", *asked, "--constraints", "odd.json")
    assert (done.returncode, error_code(done)) == (2, "attack.bad_constraint")


@pytest.mark.slow
def test_what_was_held_back_is_told_and_not_taken_for_more(
    place: Any, net: Path, error_code: Any
) -> None:
    """Constraints stand in the result and in the statement, and are no other run's."""
    place.must("init")
    key = place.signer("rita", "red-team")
    policy = place.workspace / "policy.toml"
    policy.write_text(policy.read_text() + REQUIRE.replace("eps = 0.001", "eps = 0.05"))
    said = {"schema": "keepstone.constraints/v1", "immutable": list(range(1, WIDTH))}
    (place.root / "all.json").write_text(json.dumps(said))
    asked = (net, "--data", "data.npz", "--norm", "linf", "--eps", "0.05", "--resume", "done")
    status, found = attack(place, *asked, "--constraints", "all.json", "--as", key)
    assert (status, found["verdict"]) == (0, "pass")
    assert found["constraints"].startswith("sha256:")
    done = place.run("up", net, "--port", "0")
    assert (done.returncode, error_code(done)) == (1, "gate.denied")
    assert "held attackers to constraints that the policy does not name" in done.stderr
    done = place.run("attack", *asked)
    assert (done.returncode, error_code(done)) == (2, "attack.other_run")


def test_odd_options_have_answers_of_their_own(place: Any, net: Path, error_code: Any) -> None:
    quick = ("--data", "data.npz", "--norm", "linf", "--eps", "0.01", "--budget", "5")
    for odd in (("--seed", "-1"), ("--samples", "0"), ("--samples", "-20")):
        assert place.run("attack", net, *quick, *odd).returncode == 2
    given: Any
    for given, expected in (
        (("--eps", "1e300"), (2, "attack.bad_eps")),
        (("--classes", "a,b"), (2, "target.bad_labels")),
        (("--resume", "data.npz"), (2, "")),
        # Before anything is attacked.
        (("--as", "nothing.pem"), (2, "key.missing")),
    ):
        done = place.run("attack", net, *quick, *given)
        assert done.returncode == expected[0], (given, done.stderr)
        assert expected[1] in done.stderr
        assert "internal.error" not in done.stderr
    np.savez(place.root / "narrow.npz", x=np.zeros((50, 1)), y=np.zeros(50, int))
    done = place.run("attack", "extract", net, "--data", "data.npz", "--pool", "narrow.npz")
    assert (done.returncode, error_code(done)) == (2, "attack.other_inputs")
    rows = ("--members", "data.npz", "--nonmembers", "data.npz")
    done = place.run("attack", "membership", net, *rows)
    assert (done.returncode, error_code(done)) == (2, "attack.bad_members")
