"""PyTorch: a state dict, read with `weights_only`, for an architecture that you name.

Promise: nothing in the file is run or imported. What runs is your own class, `package.module:
Class`, which is imported because you named it; the weights must fit it exactly, name by name.
TorchScript and `torch.export` archives carry code of their own and are not loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any
from zipfile import ZipFile

from keepstone.contract.schema import ModelContract
from keepstone.contract.validate import Array
from keepstone.errors import InputError, VerificationError
from keepstone.vault.load.declared import bound_to, declared_contract, require_contract
from keepstone.vault.load.prepared import (
    Prepared,
    checked_output,
    failed,
    missing_extra,
    only,
    refused,
)
from keepstone.vault.load.reader import ViewReader
from keepstone.vault.verified import Files

EXTRA = "torch"
# What torch.save writes. TorchScript, torch.export and packages have members beyond these.
_MEMBERS = frozenset({"data.pkl", "data", "byteorder", "version", ".data", ".format_version"}) | {
    ".storage_alignment"
}
DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}


class ModuleRuntime:
    """Your `module` in evaluation mode. `predict` may be called from several threads at once."""

    __slots__ = ("_contract", "_torch", "module")

    def __init__(self, module: Any, contract: ModelContract) -> None:
        self._torch = _torch()
        self.module = module.eval()
        self._contract = contract

    def predict(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Call the module with the inputs in the contract's order.

        It returns a tensor, several in the contract's order, or a mapping by name. Raises
        OperationalError `runtime.failed`, `runtime.wrong_output`.
        """
        try:
            given = [self._tensor(inputs[spec.name]) for spec in self._contract.inputs]
            with self._torch.inference_mode():
                found = self.module(*given)
            named = self._named(found)
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in named.items()}
        # The class is the user's own and may raise anything; a request must not end the server.
        except Exception as error:
            raise failed(error) from error
        return checked_output(self._contract, arrays)

    def _tensor(self, array: Array) -> Any:
        # What a request's bytes lie in cannot be written to, and torch knows no such tensor.
        return self._torch.from_numpy(array if array.flags.writeable else array.copy())

    def _named(self, found: Any) -> dict[str, Any]:
        names = [spec.name for spec in self._contract.outputs]
        if isinstance(found, Mapping):
            return {name: found[name] for name in names}
        several = found if isinstance(found, (tuple, list)) else (found,)
        return dict(zip(names, several, strict=True))


def prepare_torch(files: Files, paths: tuple[str, ...], architecture: str | None) -> Prepared:
    """Look at one archive's members and its contract; starting it imports your code.

    Raises InputError `model.not_weights`, `model.ambiguous`, `contract.*`,
    `model.architecture_needed`; VerificationError `model.wrong_architecture`; starting it raises
    what `start_module` raises.
    """
    path = only(paths)
    _require_weights(files.view(path))
    contract = bound_to(require_contract(declared_contract(files)), architecture)
    return Prepared(contract, lambda: start_module(contract, lambda: _read(files, path)))


def _require_weights(data: memoryview) -> None:
    with ZipFile(ViewReader(data)) as archive:
        names = archive.namelist()
    if len({name.casefold() for name in names}) != len(names):
        raise InputError(
            "model.ambiguous",
            "The archive names one member twice: readers differ in which one they take.",
            "Save the model again with torch.save.",
        )
    # Every member lies in one folder, whose name is the file's.
    inner = {name.partition("/")[2].partition("/")[0] for name in names}
    if not inner <= _MEMBERS or "data.pkl" not in inner:
        raise InputError(
            "model.not_weights",
            "The archive brings a program along (TorchScript or torch.export), not weights alone.",
            "Save the weights: torch.save(model.state_dict(), FILE).",
        )


def _read(files: Files, path: str) -> dict[str, Any]:
    torch = _torch()
    place = files.place(path)
    # By its path in the sealed memory torch maps the file and copies nothing.
    source: Any = ViewReader(files.view(path)) if place is None else place
    try:
        return dict(
            torch.load(source, map_location="cpu", weights_only=True, mmap=place is not None)
        )
    # What torch raises for a file that it does not take has no common base.
    except (RuntimeError, UnpicklingError, ValueError, TypeError, KeyError, EOFError) as error:
        raise refused("torch (with weights_only)") from error


def start_module(contract: ModelContract, state: Callable[[], dict[str, Any]]) -> ModuleRuntime:
    """Import the contract's architecture, put `state` into it, and be ready to predict.

    (1) The class is imported and made without arguments: this runs the user's own code.
    (2) The weights have exactly the names, shapes and types that the class has.
    (3) They take the place of what the class began with.

    Raises InputError `model.architecture_broken`; VerificationError `model.wrong_weights`;
    OperationalError `runtime.missing`, `runtime.refused`.
    """
    assert contract.architecture is not None
    _torch()
    # (1)
    module = _make(contract.architecture)
    given, wanted = state(), module.state_dict()
    # (2)
    _require_fit(given, wanted)
    # (3)
    module.load_state_dict(given, strict=True, assign=True)
    return ModuleRuntime(module, contract)


def _make(architecture: str) -> Any:
    torch = _torch()
    package, _, name = architecture.partition(":")
    try:
        found = getattr(importlib.import_module(package), name)
        made = found() if isinstance(found, type) else None
    # The user's own code may raise anything; none of it is the model's.
    except Exception as error:
        raise _broken(architecture, f"{type(error).__name__} while it was made") from error
    if not isinstance(made, torch.nn.Module):
        raise _broken(architecture, "it is not a class of torch.nn.Module")
    return made


def _require_fit(given: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    torch = _torch()
    if set(given) != set(wanted):
        odd = sorted(map(str, set(given) ^ set(wanted)))
        raise _misfit(f"{len(odd)} names differ, among them {odd[0][:100]!r}")
    for name, tensor in given.items():
        want = wanted[name]
        if not isinstance(tensor, torch.Tensor):
            raise _misfit(f"{name[:100]!r} is not a tensor")
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise _misfit(
                f"{name[:100]!r} is {tensor.dtype} {list(tensor.shape)}, and the class has"
                f" {want.dtype} {list(want.shape)}"
            )


def tensor_of(data: memoryview, dtype: str, shape: tuple[int, ...]) -> Any:
    """A tensor over `data`, not a copy; `dtype` is safetensors' name for it.

    Raises VerificationError `model.wrong_weights` for a BOOL that is neither 0 nor 1.
    """
    torch = _torch()
    kind = getattr(torch, DTYPES[dtype])
    if not len(data):
        return torch.empty(shape, dtype=kind)
    flat = torch.frombuffer(data, dtype=torch.uint8)
    if dtype == "BOOL" and int(flat.max()) > 1:
        raise _misfit("a BOOL is neither 0 nor 1")
    if flat.data_ptr() % kind.itemsize:
        # A header of odd length leaves the tensor unaligned, which kernels may not expect.
        flat = flat.clone()
    return flat.view(kind).reshape(shape)


def _torch() -> Any:
    # Imported late: it takes seconds, which what loads no such model need not spend.
    try:
        import torch
    except ImportError as error:
        raise missing_extra("PyTorch", EXTRA) from error
    return torch


def _misfit(why: str) -> VerificationError:
    return VerificationError(
        "model.wrong_weights",
        f"The weights do not fit the architecture: {why}.",
        "Name the architecture that the weights were saved from.",
    )


def _broken(architecture: str, why: str) -> InputError:
    return InputError(
        "model.architecture_broken",
        f"The architecture {architecture} cannot be used: {why}.",
        "It must be importable here, and made without arguments.",
    )
