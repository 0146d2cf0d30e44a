"""What is served under a name: a contract, a runtime and a standing admission, or none.

Withdrawing takes effect with the next look at `admitted`, from whatever thread it is called:
there is one reference to swap and no cache above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from keepstone.contract.protocol import InferCodec
from keepstone.contract.schema import ModelContract
from keepstone.contract.validate import Array
from keepstone.core.digest import Digest
from keepstone.core.subject import check_name


class Runtime(Protocol):
    """A loaded model. The gateway does not know what computes it."""

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Compute every output by name from every input by name. May be called from threads."""
        ...


class Standing:
    """One admission as the endpoint needs it: its digest in hex and its end in milliseconds."""

    __slots__ = ("digest", "expires")

    def __init__(self, digest: str, expires: int) -> None:
        self.digest = digest
        self.expires = expires


class Endpoint:
    """A model that may be served while it is admitted.

    It begins without an admission. `admit` and `withdraw` may be called from any thread.
    """

    def __init__(self, name: str, contract: ModelContract, runtime: Runtime) -> None:
        self.name = check_name(name)
        self.contract = contract
        self.runtime = runtime
        self.codec = InferCodec(name, contract)
        self.refusal = "model.not_admitted"
        # Microseconds a prediction takes, a moving average; see app.py for what it decides.
        self.typical_us = 0.0
        self._standing: Standing | None = None

    def admit(self, digest: Digest, expires: int) -> None:
        """Serve under this admission until `expires` (ms). A renewal replaces the one before."""
        self.refusal = "model.not_admitted"
        self._standing = Standing(digest.hex, expires)

    def withdraw(self, *, revoked: bool = False) -> None:
        """Stop serving now. `revoked` tells clients that the model was denied for good."""
        self.refusal = "model.revoked" if revoked else "model.not_admitted"
        self._standing = None

    def admitted(self, now: int) -> str | None:
        """The digest (hex) of the admission that holds at `now` (ms), or None."""
        standing = self._standing
        if standing is None or now >= standing.expires:
            return None
        return standing.digest

    @property
    def expires(self) -> int | None:
        """When the standing admission ends (ms)."""
        standing = self._standing
        return standing.expires if standing is not None else None
