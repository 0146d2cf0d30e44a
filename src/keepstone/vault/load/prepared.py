"""What every format's file gives: a contract, and a way to start what computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from keepstone.contract.schema import ANY, ModelContract
from keepstone.contract.validate import NUMPY, Array
from keepstone.errors import InputError, OperationalError
from keepstone.vault.verified import Files


class Runtime(Protocol):
    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Compute the contract's outputs. May be called from several threads at once.

        Raises OperationalError `runtime.failed`, `runtime.wrong_output`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that was read and not started: `start` is what first runs anything of it."""

    contract: ModelContract
    start: Callable[[], Runtime]


class Format(Protocol):
    """`paths` are the model's own files among `files`; `architecture` is the user's consent."""

    def __call__(
        self, files: Files, paths: tuple[str, ...], architecture: str | None
    ) -> Prepared: ...


def only(paths: tuple[str, ...]) -> str:
    """The one file of a format that has one. Raises InputError `model.ambiguous`."""
    if len(paths) != 1:
        raise InputError(
            "model.ambiguous",
            f"The artifact holds {len(paths)} models: {', '.join(paths)[:200]}.",
            "Leave one model file in the folder.",
        )
    return paths[0]


def no_architecture(architecture: str | None, format: str) -> None:
    """Refuse consent to import code where none is imported: it would be recorded as given."""
    if architecture is not None:
        raise InputError(
            "model.no_architecture",
            f"A model in the format {format} brings its own architecture.",
            "Leave out --architecture.",
        )


def failed(error: BaseException) -> OperationalError:
    """The runtime's own words may quote the input: they stay out of the answer."""
    return OperationalError(
        "runtime.failed", "The model failed on this input.", "See the model's contract."
    )


def refused(runtime: str) -> OperationalError:
    return OperationalError(
        "runtime.refused",
        f"{runtime} does not take the model.",
        "Export it anew, for the version that is installed here.",
    )


def missing_extra(what: str, extra: str) -> OperationalError:
    return OperationalError(
        "runtime.missing",
        f"{what} is not installed, which models of this format need.",
        f"pip install 'keepstone[{extra}]'",
    )


def checked_output(contract: ModelContract, found: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return `found` if it has the types and shapes that the contract promises.

    Raises OperationalError `runtime.wrong_output`.
    """
    for spec in contract.outputs:
        array = found[spec.name]
        fits = array.dtype == NUMPY[spec.datatype] and len(array.shape) == len(spec.shape)
        if not fits or any(w not in (ANY, n) for w, n in zip(spec.shape, array.shape, strict=True)):
            raise OperationalError(
                "runtime.wrong_output",
                f"The model returned {spec.name!r} as {array.dtype} {list(array.shape)}; its"
                f" contract says {spec.datatype} {list(spec.shape)}.",
                "Publish the model with a contract that fits what it returns.",
            )
    return found
