"""A target around another: it says of itself what that one says, but for what it adds."""

from __future__ import annotations

from typing import ClassVar

from keepstone.contract.validate import Array
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Answers, Capability, Target


class Around:
    """`served` answers; `gives` are capabilities beside its own."""

    gives: ClassVar[frozenset[Capability]] = frozenset()

    def __init__(self, served: Target) -> None:
        self._served = served

    @property
    def domain(self) -> Domain:
        return self._served.domain

    @property
    def classes(self) -> int:
        return self._served.classes

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._served.capabilities | self.gives

    def predict(self, rows: Array) -> Answers:
        return self._served.predict(rows)
