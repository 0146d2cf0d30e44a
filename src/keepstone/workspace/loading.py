"""Load an admitted model into a program of your own: judged now, recorded, verified, revocable.

    import keepstone
    model = keepstone.load("digits", workspace=".keepstone")
    model.predict(rows)

The gate decides at this moment, as it does for an endpoint: what was revoked since it was sealed
is denied. A model in a program's hands is asked about again before its admission ends.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keepstone.contract.schema import ModelContract
from keepstone.contract.validate import Array, TensorCheck
from keepstone.core.digest import Digest
from keepstone.errors import InputError, VerificationError
from keepstone.policy.admission import Admission, verify_admission
from keepstone.vault.load import load_sealed
from keepstone.workspace.clock import SteadyClock
from keepstone.workspace.kek import current_kek
from keepstone.workspace.operations import perform
from keepstone.workspace.reading import load_policy, public_key
from keepstone.workspace.reference import Reference, endpoint_of, is_version
from keepstone.workspace.site import Site
from keepstone.workspace.store import opened_store


def load(
    reference: str,
    *,
    workspace: str | Path | Site = ".keepstone",
    architecture: str | None = None,
) -> Model:
    """Load a model that this workspace holds, if its policy says yes now.

    `reference` is `name` (what was admitted last under it), `name@sha256:DIGEST`, or a version in
    the registry: `name@3`, `name@ALIAS`, `name@STAGE`, which you must be granted to pull. The gate
    decides anew, at the alias or stage that was named, and its admission is recorded; the sealed
    model is then loaded as every endpoint loads one. `architecture` (`package.module:Class`) is
    your consent to import that code, for weights alone. A folder is opened as the command line
    opens it (KEEPSTONE_OUTSIDE, KEEPSTONE_PASSPHRASE); a `Site` says everything itself.

    Raises DeniedError `gate.denied`, `gate.revoked`, `policy.denied`; InputError
    `model.never_admitted`, `registry.not_found`, `registry.no_contract`, `workspace.*`; and what
    `load_sealed` raises.
    """
    site = workspace if isinstance(workspace, Site) else Site.at(Path(workspace), os.environ)
    return Model(site, reference, architecture)


class Model:
    """A loaded model that stays admitted, or stops answering. Any thread may call it."""

    def __init__(self, site: Site, reference: str, architecture: str | None) -> None:
        self._site = site
        self._clock = SteadyClock(site.clock)
        self._reference = Reference.parse(reference)
        self._endpoint = endpoint_of(self._reference)
        self._asking = threading.Lock()
        self._admission, sealing = self._ask(reference)
        # From now on it is this artifact, whatever the name comes to mean.
        self._exactly = f"{self._admission.name}@{self._admission.artifact}"
        kek = current_kek(site)
        with opened_store(site.layout) as store:
            self._loaded = load_sealed(
                store,
                kek,
                self._admission,
                now=self._clock.now_ms(),
                version=sealing,
                architecture=architecture,
            )
        self._checks = {spec.name: TensorCheck(spec) for spec in self.contract.inputs}

    def __repr__(self) -> str:
        return f"Model({self._exactly!r}, format={self._loaded.format!r})"

    @property
    def name(self) -> str:
        return self._admission.name

    @property
    def digest(self) -> Digest:
        return self._admission.artifact

    @property
    def contract(self) -> ModelContract:
        """What it accepts and returns."""
        return self._loaded.contract

    @property
    def admission(self) -> Admission:
        """The admission that it answers under; renewed while the gate says yes."""
        return self._admission

    def predict(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        """Every output by name, from every input by name, or from the one array it takes.

        Each input is held to the contract: type, shape, finiteness and range. Raises InputError
        `request.*`; DeniedError `gate.denied`, `gate.revoked` once the policy says no;
        OperationalError `runtime.*`, and `workspace.owned` where nobody can be asked.
        """
        given = self._named(inputs)
        for name, check in self._checks.items():
            check(given[name])
        self._renew_if_due()
        return dict(self._loaded.runtime.predict(given))

    def _named(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        elif len(self._checks) == 1:
            given = {next(iter(self._checks)): np.asarray(inputs)}
        else:
            given = {}
        if set(given) != set(self._checks):
            raise InputError(
                "request.wrong_inputs",
                f"The model takes {', '.join(sorted(self._checks))}, by name.",
                "See the model's contract.",
            )
        return given

    def _renew_if_due(self) -> None:
        """Ask the gate again two thirds into an admission's life; a no ends the answers."""
        if self._is_due():
            with self._asking:
                # Another thread may have asked meanwhile.
                if self._is_due():
                    self._admission, _ = self._ask(self._exactly)

    def _is_due(self) -> bool:
        life = self._admission.expires - self._admission.issued
        return self._clock.now_ms() >= self._admission.issued + life * 2 // 3

    def _ask(self, reference: str) -> tuple[Admission, int]:
        """Have the workspace's owner judge it, and verify the admission that comes back."""
        if is_version(Reference.parse(reference)):
            answer = perform(self._site, "registry.admit", {"version": reference})
        else:
            asked = {"model": reference, "endpoint": self._endpoint}
            answer = perform(self._site, "model.admit", asked)
        # The owner's clock never runs back; this one may have stood behind it.
        self._clock.raise_floor(int(answer["now"]))
        digest = Digest(str(answer["digest"]))
        if self._reference.digest not in (None, digest):
            raise VerificationError(
                "admission.wrong_artifact",
                f"The admission is for {digest.short}.",
                "Run the gate again: keepstone up.",
            )
        admission = verify_admission(
            base64.b64decode(str(answer["envelope"])),
            public_key(self._site.layout, "gate"),
            now=self._clock.now_ms(),
            digest=digest,
            name=self._reference.name,
            endpoint=self._endpoint,
            policy_digest=load_policy(self._site.layout).digest,
        )
        return admission, int(answer["sealing"])
