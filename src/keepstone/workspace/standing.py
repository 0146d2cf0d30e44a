"""Keep asking whether a served model still may be served, and do what must be done meanwhile.

A change of evidence or policy is looked at in the moment it happens, on the thread that made
it: serving stops before anybody is told that the revocation is recorded. Admissions are renewed
on the keeper's thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from keepstone.errors import KeepstoneError
from keepstone.gateway.endpoint import Endpoint
from keepstone.policy.admission import Admission
from keepstone.policy.gate import Verdict
from keepstone.workspace.admit import Admitted, issue, judge
from keepstone.workspace.opened import Workspace

_KEEPER_S = 0.5
# What to do, and after how many seconds again.
Chore = tuple[float, Callable[[], None]]
_log = logging.getLogger("keepstone.workspace")


class Standing:
    """Whether one endpoint may go on serving; the only one who admits or withdraws it."""

    def __init__(self, workspace: Workspace, admitted: Admitted, endpoint: Endpoint) -> None:
        self._workspace = workspace
        self._endpoint = endpoint
        self._subject = admitted.verdict.subject
        self._where = admitted.verdict.endpoint
        self._contract = admitted.contract.digest
        self._policy = admitted.verdict.policy
        self._renew_at = 0
        self._deciding = threading.Lock()
        # Listening comes first: a change between the two is not missed.
        workspace.on_change(self.reconsider)
        self._take(admitted.admission).require()

    def _take(self, admission: Admission) -> Verdict:
        """Serve under `admission` if the policy still says yes now that nothing can interfere.

        A revocation may have come since the gate decided; its look at the endpoint then comes
        before this one, which sees the revocation, or after it.
        """
        with self._deciding:
            verdict = self._look()
            if verdict.allowed:
                self._policy = admission.policy
                # Two thirds into its life: a renewal that fails can be tried again and again.
                self._renew_at = admission.issued + (admission.expires - admission.issued) * 2 // 3
                self._endpoint.admit(admission.digest, admission.expires)
        return verdict

    def _look(self) -> Verdict:
        verdict = judge(self._workspace, self._subject, self._where)
        if not verdict.allowed:
            self._endpoint.withdraw(revoked=verdict.rule == "guard.revoked")
        return verdict

    def reconsider(self) -> None:
        """Stop serving now if the policy no longer says yes. Never admits."""
        with self._deciding:
            try:
                self._look()
            except KeepstoneError as error:
                _log.error("the gate cannot decide, serving stops: %s", error)
                self._endpoint.withdraw()

    def renew_if_due(self) -> None:
        """Run the gate again where the admission is old, gone, or of another policy."""
        now = self._workspace.clock.now_ms()
        of_this_policy = self._policy == self._workspace.trust.policy.digest
        if self._endpoint.admitted(now) and of_this_policy and now < self._renew_at:
            return
        verdict = self._look()
        if verdict.allowed:
            self._take(issue(self._workspace, verdict, self._contract))


class Keeper:
    """A thread that does what must be done now and again while a model is served."""

    def __init__(self, chores: list[Chore]) -> None:
        self._chores = chores
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keepstone-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        waited = [0.0] * len(self._chores)
        while not self._ended.wait(_KEEPER_S):
            for number, (every, chore) in enumerate(self._chores):
                waited[number] += _KEEPER_S
                if waited[number] >= every:
                    waited[number] = 0.0
                    self._do(chore)

    def _do(self, chore: Callable[[], None]) -> None:
        try:
            chore()
        except KeepstoneError as error:
            _log.warning("%s", error)
        except Exception:  # a thread's edge: the next round tries again  # noqa: BLE001
            _log.exception("a chore failed")
