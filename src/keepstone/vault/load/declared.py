"""The contract of a model whose format has no room for one: a file of the artifact.

What signs, approves and revokes the artifact therefore covers what the model accepts, too.
"""

from __future__ import annotations

from dataclasses import replace

from keepstone.contract.schema import (
    DType,
    ModelContract,
    check_architecture,
    parse_contract,
)
from keepstone.errors import InputError, VerificationError
from keepstone.vault.staging import CONTRACT_FILE
from keepstone.vault.verified import Files


def declared_contract(files: Files, inside: str | None = None) -> ModelContract | None:
    """The contract that the artifact declares: in a file of its own, or `inside` the model.

    Raises InputError `model.two_contracts` for both, and what `parse_contract` raises.
    """
    text: str | bytes | None = inside
    if CONTRACT_FILE in files.paths:
        if inside is not None:
            raise InputError(
                "model.two_contracts",
                f"The model carries a contract, and a {CONTRACT_FILE} lies beside it.",
                "Leave one of them out.",
            )
        text = bytes(files.view(CONTRACT_FILE))
    return None if text is None else replace(parse_contract(text), source="declared")


def require_contract(contract: ModelContract | None) -> ModelContract:
    """Raises InputError `contract.missing`, `contract.unsupported_type`."""
    if contract is None:
        raise InputError(
            "contract.missing",
            "The model does not say what it accepts and returns.",
            f"Write it into a file and give it with --contract FILE (it becomes {CONTRACT_FILE}).",
        )
    for spec in contract.inputs:
        if spec.datatype is DType.BYTES:
            raise InputError(
                "contract.unsupported_type",
                f"The input {spec.name!r} is text, which this format does not take.",
                "Use numbers or booleans.",
            )
    return contract


def bound_to(contract: ModelContract, architecture: str | None) -> ModelContract:
    """The contract with the code that the user consents to import: the admission binds both.

    Raises InputError `model.architecture_needed`, `contract.malformed`; VerificationError
    `model.wrong_architecture` where the publisher names another one.
    """
    if architecture is None:
        named = f" (its publisher names {contract.architecture})" if contract.architecture else ""
        raise InputError(
            "model.architecture_needed",
            f"The model is weights alone{named}: loading it imports your own code.",
            "Name that code with --architecture package.module:Class.",
        )
    check_architecture(architecture)
    if contract.architecture not in (None, architecture):
        raise VerificationError(
            "model.wrong_architecture",
            f"The model's publisher names the architecture {contract.architecture},"
            f" not {architecture}.",
            "Give the architecture that the contract names.",
        )
    return replace(contract, architecture=architecture)
