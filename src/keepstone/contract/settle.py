"""A contract that somebody declared, held against what can be read off the model itself."""

from __future__ import annotations

from dataclasses import replace

from keepstone.contract.schema import ANY, ModelContract, TensorSpec
from keepstone.errors import InputError


def settle(
    drawn: ModelContract, declared: ModelContract, open_ranks: frozenset[str] = frozenset()
) -> ModelContract:
    """Return `declared` if it agrees with `drawn`, what the model itself says.

    It must name the same inputs and no output that is not there, with the same types, ranks and
    fixed lengths; it may narrow an open axis, name features and set ranges. Of the tensors in
    `open_ranks` the model does not even say the rank. Raises InputError `contract.mismatch`.
    """
    if declared.architecture is not None:
        raise _mismatch("it names an architecture, and the model brings its own")
    by_name = {spec.name: spec for spec in declared.inputs}
    if set(by_name) != {spec.name for spec in drawn.inputs}:
        raise _mismatch("it does not name the inputs of the model")
    for spec in drawn.inputs:
        _check_agrees(by_name[spec.name], spec, spec.name in open_ranks)
    outputs = {spec.name: spec for spec in drawn.outputs}
    for spec in declared.outputs:
        if spec.name not in outputs:
            raise _mismatch(f"the model has no tensor output {spec.name!r}")
        _check_agrees(spec, outputs[spec.name], spec.name in open_ranks)
    return replace(declared, source="declared")


def _check_agrees(declared: TensorSpec, drawn: TensorSpec, rank_open: bool) -> None:
    if declared.datatype != drawn.datatype:
        raise _mismatch(f"{drawn.name!r} is {drawn.datatype}, not {declared.datatype}")
    if rank_open:
        return
    if len(declared.shape) != len(drawn.shape) or any(
        fixed not in (ANY, stated)
        for fixed, stated in zip(drawn.shape, declared.shape, strict=True)
    ):
        raise _mismatch(
            f"{drawn.name!r} has the shape {list(drawn.shape)}, not {list(declared.shape)}"
        )
    if drawn.features and declared.features not in ((), drawn.features):
        raise _mismatch(f"{drawn.name!r} has other features, or in another order")


def _mismatch(why: str) -> InputError:
    return InputError(
        "contract.mismatch",
        f"The declared contract does not fit the model: {why}.",
        "Publish the model again with a contract that matches it.",
    )
