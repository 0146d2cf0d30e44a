"""TensorFlow's SavedModel, written field by field: graphs whose operations reach the host.

Source: tensorflow/core/protobuf/{saved_model,meta_graph}.proto and core/framework/*.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.corpus.case import Case, fail, good, zipped
from bench.corpus.opcodes import pickled, shell
from bench.corpus.wire import field

_NONE = "none"


def _text(value: str) -> bytes:
    return field(2, value)


def _attribute(key: str, value: bytes) -> bytes:
    return field(5, field(1, key) + field(2, value))


def node(name: str, operation: str, *inputs: str, **attributes: bytes) -> bytes:
    out = field(1, name) + field(2, operation)
    out += b"".join(field(3, source) for source in inputs)
    return out + b"".join(_attribute(key, value) for key, value in attributes.items())


def _constant(name: str, text: str) -> bytes:
    # TensorProto: dtype DT_STRING (7), an empty shape, string_val (8).
    tensor = field(1, 7) + field(2, b"") + field(8, text)
    return node(name, "Const", dtype=field(6, 7), value=field(8, tensor))


def _graph(nodes: list[bytes], functions: list[bytes] | None = None) -> bytes:
    out = b"".join(field(1, item) for item in nodes)
    library = b"".join(field(1, item) for item in functions or ())
    return out + field(4, field(1, 1482)) + (field(2, library) if library else b"")


def _function(name: str, nodes: list[bytes]) -> bytes:
    return field(1, field(1, name)) + b"".join(field(3, item) for item in nodes)


def saved_model(graph: bytes, collections: bytes = b"") -> bytes:
    info = field(4, "serve") + field(5, "2.16.0")
    signature = field(
        5, field(1, "serving_default") + field(2, field(3, "tensorflow/serving/predict"))
    )
    return field(1, 1) + field(2, field(1, info) + field(2, graph) + collections + signature)


_BASE = [
    node("x", "Placeholder", dtype=field(6, 1)),
    node("w", "VarHandleOp", dtype=field(6, 1), shared_name=_text("w")),
    node("read", "ReadVariableOp", "w", dtype=field(6, 1)),
    node("y", "MatMul", "x", "read", T=field(6, 1)),
]


def _honest(seed: int) -> Iterator[Case]:
    relu = [*_BASE, node("relu", "Relu", "y", T=field(6, 1))]
    yield good("plain.pb", saved_model(_graph(_BASE)), _NONE)
    yield good("relu.pb", saved_model(_graph(relu)), _NONE)
    calls = [*_BASE, node("call", "StatefulPartitionedCall", "x", f=field(10, field(1, "inner")))]
    inner = _function("inner", [node("z", "Softmax", "x", T=field(6, 1))])
    yield good("function.pb", saved_model(_graph(calls, [inner])), _NONE)
    folder = {
        "saved_model.pb": saved_model(_graph(relu)),
        "variables/variables.data-00000-of-00001": bytes(48),
        "fingerprint.pb": field(1, 7) + field(2, 9),
    }
    yield good("folder", folder, _NONE)
    saver = [
        *_BASE,
        _constant("path", "variables/variables"),
        node("save", "SaveV2", "path"),
        node("restore", "RestoreV2", "path"),
        node("sharded", "ShardedFilename", "path"),
        node("merge", "MergeV2Checkpoints", "path"),
    ]
    yield good("with_saver.pb", saved_model(_graph(saver)), _NONE)


_HOST = {
    "ReadFile": "Reads a file",
    "WriteFile": "Writes a file",
    "MatchingFiles": "Lists files",
    "PyFunc": "Calls a Python function by its token",
    "PyFuncStateless": "Calls a Python function by its token",
    "EagerPyFunc": "Calls a Python function by its token",
    "NumpyFunction": "Calls a Python function by its token",
    "LoadLibrary": "Loads a library",
    "DebugIdentityV2": "Sends a tensor to a file or an address",
    "DebugNumericSummary": "Sends a tensor to a file or an address",
    "TextLineDataset": "Reads lines of files",
    "TFRecordDataset": "Reads records of files",
    "FixedLengthRecordDataset": "Reads records of files",
    "LMDBReader": "Reads a database",
    "SqlDataset": "Opens a database",
    "CSVDataset": "Reads files",
    "SnapshotDatasetV2": "Writes and reads a folder",
    "SaveDatasetV2": "Writes a folder",
    "LoadDataset": "Reads a folder",
    "GeneratorDataset": "Calls functions of the process",
    "CreateSummaryFileWriter": "Creates a file",
    "DataServiceDatasetV2": "Connects to a service",
    "RegisterDataset": "Connects to a service",
    "WholeFileReaderV2": "Reads files",
    "RpcCall": "Connects to a service",
    "CustomEvilOp": "An operation that TensorFlow does not have",
}


def _bad(seed: int) -> Iterator[Case]:
    for operation, what in _HOST.items():
        nodes = [*_BASE, _constant("name", "/tmp/corpus-made"), node("op", operation, "name")]
        yield fail(
            f"{operation.lower()}.pb",
            saved_model(_graph(nodes)),
            f"{what}: the operation {operation}.",
            _NONE,
        )
    write = [_constant("name", "/tmp/corpus-made"), node("op", "WriteFile", "name", "name")]
    inner = _function("inner", write)
    calls = [*_BASE, node("call", "StatefulPartitionedCall", "x", f=field(10, field(1, "inner")))]
    yield fail(
        "in_function.pb",
        saved_model(_graph(calls, [inner])),
        "Writes a file, in a function.",
        _NONE,
    )
    yield fail(
        "in_unused_function.pb",
        saved_model(_graph(_BASE, [inner])),
        "Writes a file, in a function that nothing calls yet.",
        _NONE,
    )
    one, two = saved_model(_graph(_BASE)), saved_model(_graph([*_BASE, *write]))
    yield fail(
        "second_meta_graph.pb", one + two[2:], "Writes a file, in the second of two graphs.", _NONE
    )
    # A field that comes twice is merged by some readers, and replaced by others.
    whole = saved_model(_graph(_BASE) + field(1, write[1]))
    yield fail(
        "node_after_versions.pb", whole, "Writes a file, in a node behind the library.", _NONE
    )
    yield fail(
        "graph_repeated.pb",
        field(1, 1) + field(2, field(2, _graph(_BASE)) + field(2, _graph(write))),
        "Writes a file, in a graph that comes twice and is merged.",
        _NONE,
    )
    yield fail("named_otherwise.bin", two, "Writes a file; the name says nothing.", _NONE)
    yield fail(
        "bad_folder",
        {"saved_model.pb": two, "variables/variables.index": b"", "assets/tokens.txt": b"a\nb\n"},
        "Writes a file, in a folder.",
        _NONE,
    )
    yield fail(
        "folder_with_pickle",
        {"saved_model.pb": one, "assets/vocabulary.pkl": pickled(shell())},
        "A pickle lies among the assets.",
        _NONE,
    )
    yield fail(
        "zipped.zip",
        zipped([("model/saved_model.pb", two)]),
        "Writes a file, in an archive.",
        _NONE,
    )
    keras = field(
        8,
        field(
            3,
            field(
                2,
                field(1, "_tf_keras_layer")
                + field(
                    3, '{"class_name": "Lambda", "config": {"function": ["4wEAAAA=", null, null]}}'
                ),
            ),
        ),
    )
    yield fail(
        "keras_lambda_metadata.pb",
        saved_model(_graph(_BASE)) + keras,
        "The metadata of Keras holds a Lambda's byte code.",
        _NONE,
    )


PARTS = (_honest, _bad)
