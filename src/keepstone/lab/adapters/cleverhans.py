"""CleverHans's attacks on our targets.

Source: Papernot et al. 2018, Technical Report on the CleverHans Library,
https://arxiv.org/abs/1610.00768. Tried with 4.0.0, its attacks for torch. It has no classifiers:
what it attacks is a function, so a module that it would attack is a `TorchTarget` here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from keepstone.lab.adapters.autograd import as_module, drawn_alike, torch_library
from keepstone.lab.adapters.metered import Metered, not_installed, run_outside
from keepstone.lab.attacks.port import Source
from keepstone.lab.meter import Goal, Meter
from keepstone.lab.norms import NORMS
from keepstone.lab.targets.port import Capability

_PINS = "cleverhans==4.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class CleverHansAttack:
    """`attack` takes a model, inputs, their right labels and the goal, and gives inputs back:

        CleverHansAttack(
            name="cleverhans-pgd-40",
            needs=Capability.GRADIENT,
            attack=lambda model, x, y, goal: projected_gradient_descent(
                model, x, goal.eps, goal.eps / 16, 40, np.inf, y=y
            ),
        )

    `name` is what reports, and a run that is resumed, tell the attack by: name its parameters
    too where they change. `together` runs all samples in one batch, which its attacks by gradient
    ask in order.

    Cost: that of the library, up to the budget; one query is kept for what it gives back.

    Raises OperationalError `runtime.missing`, `attack.outside_failed`; InputError
    `attack.unmapped`.
    """

    source: ClassVar[Source] = Source("https://arxiv.org/abs/1610.00768", "AML.T0043")

    name: str
    attack: Callable[[Any, Any, Any, Goal], Any] = field(repr=False)
    needs: Capability
    norms: frozenset[str] = frozenset(NORMS)
    minimizes: bool = False
    together: bool = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        try:
            import cleverhans  # noqa: F401
        except ImportError as error:
            raise not_installed("CleverHans", _PINS) from error
        run_outside(self._attack, "CleverHans", meter, rng, self.needs, together=self.together)

    def _attack(self, asked: Metered) -> object:
        torch = torch_library()
        model = as_module(asked, gradient=self.needs is Capability.GRADIENT)
        x, y = torch.from_numpy(asked.inputs), torch.from_numpy(asked.labels)
        with drawn_alike():
            found = self.attack(model, x, y, asked.goal)
        return found.detach().numpy() if hasattr(found, "detach") else found
