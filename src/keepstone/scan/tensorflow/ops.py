"""What TensorFlow's operators may do: a list of those that only compute, and of those that do not.

An operator on neither list is not judged: it may come from a library of the user's own.

Source: `tensorflow/core/ops/*.cc`, and "Using TensorFlow Securely" (TensorFlow models are
programs), https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from pathlib import Path

_OPERATORS = Path(__file__).with_name("operators.txt")
_CALLS = Path(__file__).with_name("calls.txt")


class Op(Enum):
    """How an operator stands."""

    ALLOWED = "computes"
    FILES = "reads or writes the files that its input names"
    HOST = "reaches out of the graph"
    UNKNOWN = "not known"


# Each reads, writes, connects, calls into Python, or ends the process.
HOST = frozenset(
    {
        # files
        *("ReadFile", "WriteFile", "MatchingFiles", "ImmutableConst", "LoadAndRemapMatrix"),
        *("GenerateVocabRemapping", "FileSystemSetConfiguration", "LoadDataset", "SaveDataset"),
        *("SaveDatasetV2", "SnapshotDataset", "SnapshotDatasetV2", "SnapshotDatasetReader"),
        *("SnapshotNestedDatasetReader", "SnapshotChunkDataset", "ListSnapshotChunksDataset"),
        *("DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "MatchingFilesDataset"),
        *("ExperimentalMatchingFilesDataset", "TextLineDataset", "TFRecordDataset"),
        *("TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2"),
        *("CSVDataset", "CSVDatasetV2", "ExperimentalCSVDataset", "SqlDataset", "LMDBDataset"),
        *("ExperimentalSqlDataset", "ExperimentalLMDBDataset", "CacheDataset", "CacheDatasetV2"),
        *("WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2"),
        *("TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader", "LMDBReader"),
        *("FixedLengthRecordReaderV2", "IdentityReader", "IdentityReaderV2", "ReaderRead"),
        *("ReaderReadV2", "ReaderReadUpTo", "ReaderReadUpToV2", "ReaderRestoreState"),
        *(
            "CreateSummaryFileWriter",
            "CreateSummaryDbWriter",
            "WriteRawProtoSummary",
            "ImportEvent",
        ),
        *("WriteGraphSummary", "WriteSummary", "WriteScalarSummary", "WriteHistogramSummary"),
        *("WriteImageSummary", "WriteAudioSummary", "SummaryWriter", "DebugIdentity"),
        *("DebugIdentityV2", "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary"),
        *("DebugNumericSummaryV2", "DumpTensor", "CopyHost", "SaveSlices"),
        # Python, libraries, other programs
        *("PyFunc", "PyFuncStateless", "EagerPyFunc", "ShellExecute", "LoadLibrary"),
        *("RemoteFusedGraphExecute", "TfLiteSubgraphExecute", "Abort", "PluggableHash"),
        *("ExecuteProcess", "ScipyFunc", "DlopenOp"),
        # other machines
        *("RemoteCall", "Rpc", "TryRpc", "RpcCall", "RpcClient", "RpcServer", "RpcServerStart"),
        *("RpcServerRegister", "RpcGetValue", "RpcCheckStatus", "DataServiceDataset"),
        *("DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4"),
        *("RegisterDataset", "RegisterDatasetV2", "BigQueryReader", "KafkaDataset"),
        *("GenerateBigQueryReaderPartitions", "CloudBigtableClient", "GcsConfigureCredentials"),
        *("GcsConfigureBlockCache", "KinesisDataset", "BigtableClient", "PubSubDataset"),
        *("InitializeDataServiceClient", "DummyIterationCounter"),
    }
)
# How SavedModels keep their variables, and tables their words. Their inputs are looked at.
FILES = frozenset(
    {
        *("Save", "SaveV2", "Restore", "RestoreSlice", "RestoreV2", "MergeV2Checkpoints"),
        *("InitializeTableFromTextFile", "InitializeTableFromTextFileV2"),
    }
)


@cache
def allowed() -> frozenset[str]:
    """The operators that only compute."""
    lines = _OPERATORS.read_text("ascii").split("\n")
    return frozenset(name for line in lines if not line.startswith("#") for name in line.split())


def standing(operator: str) -> Op:
    """How TensorFlow's operator of this name stands."""
    if operator in HOST:
        return Op.HOST
    if operator in FILES:
        return Op.FILES
    return Op.ALLOWED if operator in allowed() else Op.UNKNOWN


@cache
def _calls() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {"module": set(), "call": set(), "host": set()}
    for line in _CALLS.read_text("ascii").split("\n"):
        kind, *names = line.split(" ")
        found.get(kind, set()).update(names)
    return {kind: frozenset(names) for kind, names in found.items()}


def call_standing(name: str) -> Op:
    """How the function of `tf` with this dotted name stands."""
    known = _calls()
    plain = name.removeprefix("tf.").removeprefix("tensorflow.")
    if any(part in known["host"] for part in _heads(plain)):
        return Op.HOST
    plain = plain.removeprefix("compat.v1.")
    if any(part in known["host"] for part in _heads(plain)):
        return Op.HOST
    if plain in known["call"] or any(part in known["module"] for part in _heads(plain)[:-1]):
        return Op.ALLOWED
    return Op.UNKNOWN


def _heads(name: str) -> list[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
