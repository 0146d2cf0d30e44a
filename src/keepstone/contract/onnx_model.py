"""What Keepstone knows of an ONNX file without running it: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OnnxLimits:
    """What one file may hold. A file past one of them is not judged."""

    max_depth: int = 16  # subgraphs within subgraphs
    max_work: int = 40_000_000  # at most some five seconds
    max_nodes: int = 250_000
    max_tensors: int = 500_000
    max_functions: int = 10_000
    max_rank: int = 64
    max_name: int = 4096
    max_metadata: int = 4 << 20  # all keys and values together
    max_values: int = 65_536  # inputs and outputs of the main graph
    max_operators: int = 65_536  # distinct (domain, operator) pairs
    max_external_files: int = 10_000


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """An input or output of the main graph. A dimension is None where the graph leaves it open.

    `kind` is tensor, sequence, map, opaque, sparse, optional or untyped; `element` is the ONNX
    element type of a tensor. `shape` is None where even the rank is open.
    """

    name: str
    kind: str
    element: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """A tensor whose data the file says lies elsewhere: its name, where it sits, and the target."""

    name: str
    place: str
    location: str
    offset: int


@dataclass(frozen=True, slots=True)
class OnnxFunction:
    """A function of the model: what it is called, its own nodes, and what it calls."""

    domain: str
    name: str
    overload: str
    nodes: int
    calls: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """What the file says, as far as judging, serving and describing it need.

    `inputs` are the ones a caller must give: an input that has an initialiser is left out, as
    onnxruntime does. `operators` counts nodes by (domain, operator) over every graph and
    function; the default domain is the empty string, and `main_calls` counts all but those in
    functions. `sparse_elements` is the largest dense size that a sparse tensor would unfold to.
    `unknown_fields` names the fields that no published ONNX version defines.
    """

    ir_version: int
    producer: str
    opsets: tuple[tuple[str, int], ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    operators: Mapping[tuple[str, str], int]
    main_calls: Mapping[tuple[str, str], int]
    functions: tuple[OnnxFunction, ...]
    external_tensors: tuple[ExternalTensor, ...]  # the first 100
    external_count: int
    depth: int
    nodes: int
    tensors: int
    tensor_bytes: int
    sparse_elements: int
    has_training: bool
    metadata: Mapping[str, str]
    unknown_fields: tuple[str, ...]
    # How far into each external file any tensor says that it reaches; -1 where it says nonsense.
    external_reach: Mapping[str, int]

    @property
    def external_files(self) -> frozenset[str]:
        """Every file that a tensor names for its data."""
        return frozenset(self.external_reach)

    @property
    def node_domains(self) -> frozenset[str]:
        """Every domain that a node's operator comes from; the default one is empty."""
        return frozenset(domain for domain, _ in self.operators)
