"""The privacy that DP-SGD's noise buys: an epsilon on which two accountants agree, or none.

Promise: `account` gives the larger of two upper bounds, each named, for so many steps of the
Gaussian mechanism over Poisson samples, where neighbours are data sets that differ by one row,
added or removed. Where the two lie further apart than their own errors, one of them is wrong and
there is no number (`defence.accountants_disagree`).

- `prv`: Gopi, Lee and Wutschitz 2021, arXiv 2106.02848, as in Opacus; it includes its error.
- `pld`: Koskela et al. 2020; connect-the-dots, Doroshenko et al. 2022, as in dp-accounting.
- `gdp` is refused as evidence: it is a limit, and may lie below the truth (Gopi et al. 2021).

Cost: a second or two. Blind spots: an epsilon is true of what was run, if it was run so: with those
samples, that clipping and noise that nobody can repeat; it says nothing of rows that belong to one
person together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.errors import InputError, OperationalError

# PRV adds its own error to what it gives, PLD the width of its grid; the rest is a share.
_ERROR = 0.01
_TOLERANCE = 0.02
_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class Epsilon:
    """`epsilon` at `delta` by `accountant`; `by` has what each of them gave."""

    epsilon: float
    delta: float
    accountant: str
    by: tuple[tuple[str, float], ...]
    noise: float
    rate: float
    steps: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "accountant": self.accountant,
            "by": dict(self.by),
            "noise": self.noise,
            "rate": self.rate,
            "steps": self.steps,
            "sampling": "poisson",
            "neighbours": "one row added or removed",
        }


def account(
    noise: float,
    rate: float,
    steps: int,
    delta: float,
    by: Sequence[str] = ("prv", "pld"),
) -> Epsilon:
    """The epsilon of `steps` steps with noise of `noise` times the clipping, each row in each step
    with the chance `rate`.

    Raises InputError `defence.bad_parameters`, `defence.gdp`, `defence.one_accountant`;
    OperationalError `runtime.missing`, `defence.not_accounted`, `defence.accountants_disagree`.
    """
    sound = np.isfinite(noise) and noise > 0 and 0 < rate <= 1 and steps >= 1 and 0 < delta < 1
    if not sound:
        raise InputError(
            "defence.bad_parameters",
            "Privacy takes noise above zero, a rate up to 1, a step and a delta below 1.",
        )
    if "gdp" in by:
        raise InputError(
            "defence.gdp",
            "GDP accounting gives a limit that may lie below the true epsilon: it is no evidence.",
            "Account by prv and pld.",
        )
    if len(set(by)) < 2 or not set(by) <= set(_ACCOUNTANTS):
        raise InputError(
            "defence.one_accountant",
            "An epsilon counts where two accountants agree on it.",
            f"Name two of: {', '.join(_ACCOUNTANTS)}.",
        )
    found = tuple((name, _bounded(name, noise, rate, steps, delta)) for name in by)
    return agreed(found, noise, rate, steps, delta)


def agreed(
    found: tuple[tuple[str, float], ...], noise: float, rate: float, steps: int, delta: float
) -> Epsilon:
    """The larger of the bounds. Raises OperationalError `defence.accountants_disagree`."""
    accountant, largest = max(found, key=lambda one: one[1])
    least = min(value for _, value in found)
    if largest - least > _TOLERANCE + _SHARE * largest:
        told = ", ".join(f"{name} {value:.4f}" for name, value in found)
        raise OperationalError(
            "defence.accountants_disagree",
            f"The accountants lie too far apart for either to be believed: {told}.",
            "Use more noise or fewer steps; at the edges of their grids accountants fail.",
        )
    return Epsilon(largest, delta, accountant, found, noise, rate, steps)


def _bounded(name: str, noise: float, rate: float, steps: int, delta: float) -> float:
    try:
        # What they warn of is rounding inside; what comes out is compared.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = float(_ACCOUNTANTS[name](noise, rate, steps, delta))
    except ImportError as error:
        raise OperationalError(
            "runtime.missing",
            "Opacus and dp-accounting are not both installed, which accounting needs.",
            "pip install 'keepstone[dp]'",
        ) from error
    except (ArithmeticError, ValueError, RuntimeError, MemoryError) as error:
        raise _unaccounted(name) from error
    if not np.isfinite(found) or found < 0:
        raise _unaccounted(name)
    return found


def _prv(noise: float, rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise, rate, steps)]
    return float(accountant.get_epsilon(delta, eps_error=_ERROR))


def _pld(noise: float, rate: float, steps: int, delta: float) -> float:
    from dp_accounting import dp_event, pld

    accountant = pld.PLDAccountant()
    step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
    accountant.compose(step, steps)
    return float(accountant.get_epsilon(delta))


_ACCOUNTANTS: dict[str, Callable[[float, float, int, float], float]] = {"prv": _prv, "pld": _pld}


def _unaccounted(name: str) -> OperationalError:
    return OperationalError(
        "defence.not_accounted",
        f"The accountant {name} gives no epsilon for so little noise, or so many steps.",
        "Use more noise or fewer steps.",
    )
