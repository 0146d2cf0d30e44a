"""The objects that torch's loader brings into a pickle: storages, and classes with their source.

Promise: only what the loader itself makes of a persistent id passes; a storage is known by key,
type and length, so that what must lie in the file can be compared with what does.

Source: torch.serialization (`_load`, `_legacy_load`), 0.1.12 to 2.13.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keepstone.scan.pickle.allowlist import Entry
from keepstone.scan.pickle.values import Global, Made, Value

_SIZES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexDouble": 16,
    "ComplexFloat": 8,
    "QInt8": 1,
    "QUInt8": 1,
    "QInt32": 4,
    "QUInt4x2": 1,
    "QUInt2x4": 1,
    "Untyped": 1,
}
# A storage may be handed to those who rebuild tensors, and nothing else.
_STORAGE = Entry()


@dataclass(slots=True)
class Objects:
    """What one pickle takes. `storages` maps each key to the bytes that it needs."""

    storages: dict[str, int] = field(default_factory=dict)
    item_sizes: dict[str, int] = field(default_factory=dict)

    def take(self, name: Value) -> Value | str:
        """The object of a persistent id, or why torch's loader has none."""
        if not isinstance(name, tuple) or not name:
            return "its name is none that torch writes"
        if name[0] == "module" and len(name) == 4 and isinstance(name[1], Global):
            return name[1]
        if name[0] != "storage" or len(name) not in (5, 6):
            return "its name is none that torch writes"
        kind, key, location, count = name[1:5]
        size = _item_size(kind)
        if size is None or not isinstance(key, str) or not isinstance(location, str):
            return "its storage is none that torch writes"
        if type(count) is not int or count < 0:
            return "the length of its storage is odd"
        self.item_sizes[key] = size
        self.storages[key] = max(self.storages.get(key, 0), size * count)
        return Made(kind if isinstance(kind, Global) else None, _STORAGE, name)


def _item_size(kind: Value) -> int | None:
    """The bytes of one item: the loader goes by the name alone where it knows it."""
    if not isinstance(kind, Global):
        return None
    return _SIZES.get(kind.name.removesuffix("Storage")) if "Storage" in kind.name else None
