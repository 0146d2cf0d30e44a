"""What a rule of versions is: it puts two in order, or says that it cannot."""

from __future__ import annotations

from collections.abc import Callable


class UnorderableError(ValueError):
    """The text is no version by the ecosystem's rule; the message is the reason, one sentence."""


# -1, 0 or 1 as the first is before, equal to or behind the second. Raises UnorderableError.
Order = Callable[[str, str], int]
