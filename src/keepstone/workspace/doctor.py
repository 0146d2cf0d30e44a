"""Look at everything a workspace rests on, and say what mends what is not well."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from keepstone import __version__
from keepstone.core.ports import rfc3339
from keepstone.errors import KeepstoneError, OperationalError
from keepstone.ledger import LedgerReader
from keepstone.policy.engine import Engine
from keepstone.policy.explain import warnings
from keepstone.vault.keks import reference_of
from keepstone.workspace.backup import keys_encrypted
from keepstone.workspace.clock import SteadyClock
from keepstone.workspace.keys import load_authority, load_keys
from keepstone.workspace.layout import read_identity
from keepstone.workspace.owner import own
from keepstone.workspace.reading import load_policy, load_trust, read_workspace, verify_ledger_of
from keepstone.workspace.reserve import SIZE
from keepstone.workspace.site import Site
from keepstone.workspace.store import opened_store

State = Literal["ok", "warn", "fail"]
_CLOCK_SLACK_MS = 2_000
_DAY_MS = 86_400_000
_LITTLE_SPACE = 64 << 20


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, how it is, and the command that mends it."""

    check: str
    state: State
    message: str
    mend: str = ""


def examine(site: Site) -> list[Check]:
    """Every check, in the order in which things rest on one another. Never raises for a fault."""
    found: list[Check] = []
    for name, look in _CHECKS:
        try:
            found += [Check(name, state, message, mend) for state, message, mend in look(site)]
        except KeepstoneError as error:
            found.append(Check(name, "fail", error.cause, error.next_step))
            if name == "workspace":
                break
        except OSError as error:
            found.append(Check(name, "fail", f"{error.filename}: {error.strerror}"))
    return found


_Line = tuple[State, str, str]


def _workspace(site: Site) -> Iterator[_Line]:
    identity = read_identity(site.layout)
    yield "ok", f"{identity.workspace_id}, made {rfc3339(identity.created)}", ""
    if site.layout.root.stat().st_mode & 0o077:
        yield "fail", "Others may look into the workspace.", f"chmod 700 {site.layout.root}"
    try:
        with own(site.layout):
            yield "ok", "no process owns it now", ""
    except OperationalError as error:
        yield "ok", error.cause, ""


def _keys(site: Site) -> Iterator[_Line]:
    for path in sorted(site.layout.keys.iterdir()):
        public = path.name.endswith(".pub.pem")
        if not public and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield "fail", f"Others may read {path.name}.", f"chmod 600 {path}"
    keys = load_keys(site.layout, site.passphrase)
    yield "ok", f"observer {keys.observer.key_id[:16]}, gate {keys.gate.key_id[:16]}", ""
    place = reference_of(site.layout.kek)
    if place is not None:
        yield "ok", f"the key-encryption key is in {place}", ""
    if site.layout.next_kek.exists():
        yield (
            "warn",
            "The key-encryption key is being replaced, or was when a process was killed.",
            "keepstone vault rotate --finish",
        )
    if not keys_encrypted(site.layout):
        yield (
            "warn",
            "The keys are not under a passphrase: a copy of the workspace opens the vault.",
            "make the next workspace with KEEPSTONE_PASSPHRASE set",
        )


def _clock(site: Site) -> Iterator[_Line]:
    with LedgerReader.open(site.layout.ledger) as reader:
        behind = SteadyClock(site.clock, reader.newest_time()).behind_ms
    if behind > _CLOCK_SLACK_MS:
        yield (
            "fail",
            f"The clock is {behind / 1000:.0f} s behind the newest entry; that entry's time is"
            " used until the clock has caught up.",
            "set the clock (timedatectl set-ntp true)",
        )
    else:
        yield "ok", rfc3339(site.clock.now_ms()), ""


def _ledger(site: Site) -> Iterator[_Line]:
    report = verify_ledger_of(site)
    line = f"{report.status}, {report.size} entries, root {report.root.hex()[:16]}"
    if report.status == "verified":
        yield "ok", line, ""
    elif report.status == "verified_no_outside":
        yield "warn", f"{line}: no checkpoint is kept outside", "keepstone ledger checkpoint"
    else:
        first = f": {report.errors[0].message}" if report.errors else ""
        yield "fail", f"{line}{first}", "keepstone restore the newest backup"


def _policy(site: Site) -> Iterator[_Line]:
    policy = load_policy(site.layout)
    Engine(policy)
    load_trust(site.layout)
    yield "ok", f"profile {policy.profile}, audit {policy.audit_mode}, {policy.digest}", ""
    for warning in warnings(policy):
        yield "warn", warning, "keepstone policy check"


def _evidence(site: Site) -> Iterator[_Line]:
    with read_workspace(site) as view:
        yield "ok", f"{len(view.evidence.statements)} statements", ""
        for item in view.evidence.unreadable:
            yield (
                "fail",
                f"Entry {item.entry_index} cannot be read ({item.code}); nothing is admitted.",
                "keepstone ledger verify",
            )
        for refused in view.evidence.ignored_revocations:
            yield "warn", f"A revocation has no effect: {refused.detail}", "keepstone revoke"


def _certificate(site: Site) -> Iterator[_Line]:
    authority = load_authority(site.layout, site.passphrase)
    left = (authority.expires - site.clock.now_ms()) // _DAY_MS
    state: State = "ok" if left > 30 else "warn" if left > 0 else "fail"
    hosts = ", ".join(authority.hosts)
    mend = (
        ""
        if state == "ok"
        else f"rm {site.layout.authority} {site.layout.authority_key}, then keepstone up"
    )
    yield state, f"local CA for {hosts}, {left} days left", mend


def _store(site: Site) -> Iterator[_Line]:
    with opened_store(site.layout) as store:
        for fact in store.examine():
            yield fact.state, fact.message, fact.mend


def _disk(site: Site) -> Iterator[_Line]:
    free = shutil.disk_usage(site.layout.root).free
    if free < _LITTLE_SPACE:
        yield "warn", f"{free >> 20} MiB free", "free some space"
    else:
        yield "ok", f"{free >> 30} GiB free", ""
    reserve = site.layout.reserve
    held = reserve.exists() and reserve.stat().st_blocks * 512 >= SIZE
    if not held:
        yield "warn", "No space is held back for a revocation on a full disk.", "keepstone up"


def _extras(site: Site) -> Iterator[_Line]:
    runtimes = {"onnxruntime": "ONNX models"}
    for package, what in runtimes.items():
        try:
            yield "ok", f"{package} {version(package)}: {what}", ""
        except PackageNotFoundError:
            yield (
                "fail",
                f"{package} is missing: {what} cannot be served.",
                f"pip install {package}",
            )
    optional = {
        "torch": ("torch", "PyTorch and safetensors weights"),
        "skops": ("skops", "scikit-learn models"),
        "xgboost-cpu": ("xgboost", "XGBoost models"),
        "lightgbm": ("lightgbm", "LightGBM models"),
    }
    for package, (extra, what) in optional.items():
        try:
            yield "ok", f"{package} {version(package)}: {what}", ""
        except PackageNotFoundError:
            yield (
                "ok",
                f"{package} is not installed: {what} are not served",
                f"pip install 'keepstone[{extra}]'",
            )
    yield "ok", f"keepstone {__version__}", ""


_CHECKS: tuple[tuple[str, Callable[[Site], Iterator[_Line]]], ...] = (
    ("workspace", _workspace),
    ("keys", _keys),
    ("clock", _clock),
    ("ledger", _ledger),
    ("policy", _policy),
    ("evidence", _evidence),
    ("certificate", _certificate),
    ("store", _store),
    ("disk", _disk),
    ("extras", _extras),
)
