"""The signs that are looked for: all of them, in the order in which they are shown."""

from __future__ import annotations

from keepstone.lab.masking.port import Check
from keepstone.lab.masking.signs.blackbox import BlackBox
from keepstone.lab.masking.signs.differences import Disagreement
from keepstone.lab.masking.signs.flat import Flat
from keepstone.lab.masking.signs.growth import Growth
from keepstone.lab.masking.signs.noise import Noise
from keepstone.lab.masking.signs.one_step import OneStep
from keepstone.lab.masking.signs.randomised import Randomised
from keepstone.lab.masking.signs.saturation import Saturation
from keepstone.lab.masking.signs.transfer import TransferBeats
from keepstone.lab.masking.signs.unbounded import Unbounded
from keepstone.lab.masking.signs.vanishing import Vanishing

SIGNS: tuple[Check, ...] = (
    Vanishing(),
    Saturation(),
    Disagreement(),
    Randomised(),
    BlackBox(),
    TransferBeats(),
    OneStep(),
    Noise(),
    Unbounded(),
    Growth(),
    Flat(),
)
