"""Rules on what a pickle would do while it loads: nothing beyond the allow-list passes.

Each import, call and change is judged where it happens, with what it is given. What is refused
becomes a finding; whatever a refused call gives may do nothing more, and is not named again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from keepstone.core.finding import Finding
from keepstone.scan.pickle.allowlist import Entry, look_up
from keepstone.scan.pickle.arguments import CHECKS, LOOK_UPS, OF_FIRST
from keepstone.scan.pickle.danger import why_dangerous
from keepstone.scan.pickle.machine import reaches
from keepstone.scan.pickle.values import UNKNOWN, Box, Global, Made, Opaque, Value
from keepstone.scan.rules import MAX_FINDINGS, printable
from keepstone.scan.view import View

_VALUE = Entry()
# A class of TorchScript code, which is judged by itself.
_SCRIPT = Entry(new=True, call=True, build=True)
# Says what an object is that the loader brings along, or why it is none.
Persistent: TypeAlias = "Callable[[Value], Value | str]"


@dataclass(slots=True)
class Ruling:
    """The findings on one stream, which begins at `base` in the view."""

    view: View
    base: int = 0
    persistent_as: Persistent | None = None
    script: Callable[[str], bool] | None = None
    findings: list[Finding] = field(default_factory=list)
    inner: list[Opaque] = field(default_factory=list)
    _said: set[tuple[str, str]] = field(default_factory=set)
    # A callable that looks names up may only be called, and is refused where it is not.
    _pending: dict[int, Global] = field(default_factory=dict)
    _seen: dict[tuple[str, str], Global] = field(default_factory=dict)

    def say(self, rule: str, message: str, at: int) -> None:
        if (rule, message) not in self._said and len(self._said) < MAX_FINDINGS:
            self._said.add((rule, message))
            self.findings.append(self.view.finding(rule, message, self.base + at))

    # What the machine tells ------------------------------------------------------------------

    def imported(self, module: str, name: str, at: int) -> Value:
        known = self._seen.get((module, name))
        if known is not None:
            return known
        if self.script is not None and self.script(module):
            return Global(module, name, _SCRIPT)
        entry = look_up(module, name, self.view.allowed)
        found = Global(module, name, entry)
        if entry is None:
            self._refuse_import(found, at)
        elif entry.added:
            self.view.allowance.leaned.add(f"{printable(module)}.{printable(name)}")
        if len(self._seen) < 100_000:
            self._seen[module, name] = found
        if entry is not None and entry.call_check in LOOK_UPS:
            self._pending[at] = found
        return found

    def _refuse_import(self, found: Global, at: int) -> None:
        shown = f"{printable(found.module)}.{printable(found.name)}"
        why = why_dangerous(found.module, found.name)
        if why is not None:
            self.say("pickle.dangerous_import", f"Loading imports {shown}: {why}.", at)
        else:
            reason = f"Loading imports {shown}, which is not on the allow-list."
            self.say("pickle.import", reason, at)

    def computed(self, parts: tuple[Value, Value], at: int) -> Value:
        known = " ".join(printable(part) for part in parts if isinstance(part, str))
        reason = f"Loading imports a computed name{f' ({known})' if known else ''}."
        self.say("pickle.computed_import", reason, at)
        return UNKNOWN

    def extension(self, code: int, at: int) -> Value:
        reason = f"Loading calls what is registered under extension code {code}."
        self.say("pickle.extension", reason, at)
        return UNKNOWN

    def called(self, how: str, callee: Value, args: Value, at: int) -> Value:
        if isinstance(callee, Global) and callee.entry is None:
            return Made(callee, None, args)
        reason = self.why_not(how, callee, args)
        if reason is not None:
            self.say("pickle.call", f"Loading calls {_named(callee)}: {reason}.", at)
            return Made(callee if isinstance(callee, Global) else None, None, args)
        assert isinstance(callee, Global)
        assert isinstance(args, tuple)
        return self._result(how, callee, args, at)

    def why_not(self, how: str, callee: Value, args: Value) -> str | None:
        """Why this call is refused, or None."""
        if not isinstance(callee, Global):
            return "what it calls is not a name of the allow-list"
        entry = callee.entry
        if entry is None:
            return "it is not on the allow-list"
        if not isinstance(args, tuple):
            return "its arguments are computed"
        if how in ("NEWOBJ", "NEWOBJ_EX"):
            return None if entry.new else "it may not be made without its constructor"
        if how == "OBJ without arguments" and entry.new:
            return None
        if not entry.call:
            return "it may be named but not called"
        return None if entry.call_check is None else CHECKS[entry.call_check](self, args)

    def _result(self, how: str, callee: Global, args: tuple[Value, ...], at: int) -> Value:
        check = callee.entry.call_check if callee.entry is not None else None
        if how != "REDUCE" or check is None:
            return Made(callee, callee.entry, args)
        if check in LOOK_UPS:
            self._pending = {key: one for key, one in self._pending.items() if one is not callee}
            first, name = args
            if isinstance(first, Global):
                return self.imported(first.module, f"{first.name}.{name}", at)
            if isinstance(first, Made):
                return Made(first.maker, _VALUE, args)
            return self.imported(str(first), str(name), at)
        if check == "dill_type":
            # dill's name of a type is as good as the type's own.
            plain = args[0] != "NoneType"
            named = self.imported("builtins", str(args[0]), at) if plain else None
            return named or Made(callee, _VALUE, args)
        if check in OF_FIRST and isinstance(args[0], Global):
            return Made(args[0], args[0].entry, args)
        return Made(callee, callee.entry, args)

    def built(self, target: Value, state: Value, at: int) -> None:
        reason = self._why_no_state(target, state)
        if reason is not None:
            self.say("pickle.call", f"Loading changes {_named(target)}: {reason}.", at)

    def _why_no_state(self, target: Value, state: Value) -> str | None:
        if not isinstance(target, Made):
            return "it is not an object of the file"
        entry = target.entry
        if entry is None:
            # What made it was refused, and named, already.
            return None
        if not entry.build:
            return "it may not be given a state"
        if reason := _reaching(target.state) or _reaching(state):
            return reason
        return None if entry.build_check is None else CHECKS[entry.build_check](self, (state,))

    def grown(self, target: Value, how: str, values: list[Value], at: int) -> None:
        if isinstance(target, Made) and target.entry is None:
            return
        wanted = {"extend": "list", "__setitem__": "dict", "add": "set"}[how]
        shape = target.entry.shape if isinstance(target, Made) and target.entry else None
        fine = shape == wanted or (shape == "attributes" and wanted == "dict")
        reason = None if fine else f"its {how} is not known to be harmless"
        if reason is None and isinstance(target, Made):
            reason = _reaching(target.state)
            if shape == "attributes" and any(_is_reaching_key(key) for key in values[::2]):
                reason = "a key of it reads as an attribute that loaders call"
        if reason is not None:
            self.say("pickle.call", f"Loading adds to {_named(target)}: {reason}.", at)

    def persistent(self, name: Value, at: int) -> Value:
        if isinstance(name, Opaque):
            reason = "The pickle takes buffers that do not lie in the file."
            self.say("pickle.persistent", reason, at)
            return name
        if self.persistent_as is None:
            reason = "The pickle takes objects that only its own loader knows."
            self.say("pickle.persistent", reason, at)
            return UNKNOWN
        found = self.persistent_as(name)
        if isinstance(found, str):
            self.say("pickle.call", f"Loading takes an object of the loader: {found}.", at)
            return Made(None, None, ())
        return found

    def odd(self, reason: str, at: int) -> None:
        self.say("pickle.ambiguous", reason, at)

    # What checks ask -------------------------------------------------------------------------

    def inner_file(self, content: Opaque) -> None:
        if len(self.inner) < MAX_FINDINGS:
            self.inner.append(content)

    def ended(self) -> None:
        """The pickle is at its end: what was held back is said now."""
        for at, one in self._pending.items():
            reason = f"Loading keeps {one}, which may only be called."
            self.say("pickle.call", reason, at)
        self._pending = {}


def _named(value: Value) -> str:
    if isinstance(value, Global):
        return f"{printable(value.module)}.{printable(value.name)}"
    if isinstance(value, Made) and value.maker is not None:
        return f"an object of {_named(value.maker)}"
    return "something computed"


def _reaching(state: Value) -> str | None:
    """Why this state may not be given: it sets what loaders call, or hides what it sets."""
    for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        if isinstance(part, Box) and part.reaches is not None:
            return f"the attribute {printable(part.reaches)} is one that loaders call"
        if isinstance(part, Box) and part.computed:
            return "the name of an attribute is computed"
    if isinstance(state, Made) and state.entry is not None and state.entry.shape is not None:
        return "the names of its attributes are computed"
    if isinstance(state, Global) or state is UNKNOWN:
        return "its state is computed"
    return None


def _is_reaching_key(key: Value) -> bool:
    return reaches(key) if isinstance(key, str) else isinstance(key, (Made, Global))
