"""A suspect behind HTTPS, asked for one answer to each row: what a fingerprint compares."""

from __future__ import annotations

from typing import Any

from keepstone.contract.schema import ANY, DType, TensorSpec
from keepstone.contract.validate import Array
from keepstone.lab.ownership.crossings import Answer
from keepstone.lab.targets.reading import Reading, number
from keepstone.lab.targets.remote import Address, Remote, Tensor


class EndpointTarget:
    """One model at one endpoint. `ask` gives None for rows that were not answered."""

    def __init__(
        self,
        address: Address,
        output: str | None = None,
        input: str | None = None,
        **limits: Any,
    ) -> None:
        """Read what the model takes, unless both its `input` and its `output` are named: a key
        may predict without being allowed to read that. Numbers then go out as FP32.

        `limits` are those of `Remote`. Raises InputError `target.bad_ca`,
        `fingerprint.unsupported`, `fingerprint.no_output`; OperationalError as `Remote.metadata`.
        """
        self.address = address
        self._remote = Remote(address, **limits)
        self._named = (input, output) if input is not None and output is not None else None
        named = self._named is not None
        self._reading = None if named else Reading.of(self._remote.metadata(), output)

    def ask(self, rows: Array) -> list[Answer]:
        """Raises InputError `fingerprint.other_inputs`; OperationalError as the constructor."""
        reading = self._reading or _by_name(*(self._named or ("", "")), rows.shape[1])
        name = reading.output.name
        found = self._remote.infer(reading.input, reading.question(rows), [name])
        return [None] * len(rows) if found is None else _answers(found[name])


def _by_name(input: str, output: str, width: int) -> Reading:
    return Reading(
        TensorSpec(input, DType.FP32, (ANY, width)), TensorSpec(output, DType.FP32, (ANY,))
    )


def _answers(found: Tensor) -> list[Answer]:
    """One answer to each row."""
    width = len(found.data) // found.shape[0]
    starts = range(0, len(found.data), width)
    return [_row(found.data[at : at + width], found.datatype) for at in starts]


def _row(row: list[Any], datatype: DType) -> Answer:
    if not datatype.is_float:
        value = row[0]
        return str(value)[:256] if isinstance(value, str | int) else None
    values = [number(value) for value in row]
    if None in values:
        return None
    scores = [value for value in values if value is not None]
    return scores[0] if len(scores) == 1 else str(scores.index(max(scores)))
