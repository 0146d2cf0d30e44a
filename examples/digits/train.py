"""Train a classifier of handwritten digits, and publish it as a supplier should.

The 1,797 digits (UCI, 8 x 8 pixels of 0 to 16) ship with scikit-learn, so nothing is downloaded.
The folder given by --out gets

    digits.onnx                   the model; its input's contract lies inside, in metadata_props
    digits.onnx.sig               an OpenSSF model signing bundle over it
    digits.onnx.statements.jsonl  a signed training statement: dataset, parameters, metrics
    publisher.pem                 the publisher's private key (0600), made once and used again
    publisher.pub.pem             its public half, to be trusted by those who trust this publisher
    sample.json                   an Open Inference Protocol request with a digit it never saw
    held_out.npz                  all digits it never saw, and what they are: to attack it with

Training the same way again gives the same bytes of model; what was signed over them is kept.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepstone import __version__
from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.core.canonical import canonical
from keepstone.core.digest import SINGLE_FILE, Digest, FileDigest, artifact_digest
from keepstone.core.ports import SystemClock
from keepstone.core.subject import Subject
from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.evidence.dsse import Envelope, verify_envelope
from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.evidence.predicates import Input, Made, Tool, Training
from keepstone.evidence.statement import make_statement, open_payload
from keepstone.files import write_atomic
from keepstone.identity.signing import SigningKey, load_private_key, write_secret_file

NAME = "digits"
SEED = 7
HELD_OUT = 0.25
PARAMETERS: dict[str, Any] = {"hidden_layer_sizes": (64,), "alpha": 0.01, "max_iter": 120}
METADATA_KEY = "keepstone.contract"
FEATURES = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))

CONTRACT = ModelContract(
    inputs=(TensorSpec("input", DType.FP32, (-1, 64), low=0.0, high=16.0, features=FEATURES),),
    outputs=(
        TensorSpec("label", DType.INT64, (-1,)),
        TensorSpec("probabilities", DType.FP32, (-1, 10)),
    ),
)


@dataclass(frozen=True)
class Trained:
    """A model's bytes, and what is to be said about how they came to be."""

    onnx: bytes
    dataset: Digest
    metrics: dict[str, str]
    sample: list[int]
    label: int
    held_out: bytes


def train() -> Trained:
    """Fit, measure on the held-out quarter, and export; the same bytes on each run."""
    # Imported here: scikit-learn takes seconds, and refusing a bad argument should not.
    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    digits = load_digits()
    images, labels = digits.data.astype(np.float32), digits.target
    dataset = Digest.of(digits.data.astype("u1").tobytes() + labels.astype("u1").tobytes())
    fit_x, test_x, fit_y, test_y = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels
    )
    model = MLPClassifier(
        random_state=SEED, early_stopping=False, n_iter_no_change=200, **PARAMETERS
    )
    # One thread: how a sum is split over threads changes its last bit, and so the digest.
    with threadpool_limits(1), np.errstate(all="raise", under="ignore"):
        _fit(model, fit_x, fit_y)
        probabilities = model.predict_proba(test_x)
    metrics = {
        "accuracy": f"{model.score(test_x, test_y):.4f}",
        "log_loss": f"{log_loss(test_y, probabilities):.4f}",
        "test_samples": str(len(test_y)),
    }
    sample = [int(value) for value in test_x[0]]
    held_out = io.BytesIO()
    np.savez(held_out, x=test_x, y=test_y)
    return Trained(_export(model), dataset, metrics, sample, int(test_y[0]), held_out.getvalue())


def _fit(model: Any, images: Any, labels: Any) -> None:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # A fixed number of rounds is the point: no early end that hangs on rounding.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(images, labels)


def _export(model: Any) -> bytes:
    from onnx.helper import set_model_props
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    exported = to_onnx(
        model,
        initial_types=[("input", FloatTensorType([None, 64]))],
        # Tensors, not a list of maps: that is what the protocol can carry.
        options={id(model): {"zipmap": False}},
        target_opset={"": 17, "ai.onnx.ml": 1},
    )
    exported.graph.name = NAME
    set_model_props(exported, {METADATA_KEY: CONTRACT.to_json().decode()})
    # Map fields have no order of their own in protobuf.
    return bytes(exported.SerializeToString(deterministic=True))


def publisher_key(path: Path) -> SigningKey:
    """Load the publisher's key, or make it: EC P-256, mode 0600, outside every workspace."""
    if not path.exists():
        write_secret_file(path, SigningKey.generate().to_pem())
    return load_private_key(path)


def subject_of(model: bytes) -> Subject:
    return Subject(NAME, artifact_digest([FileDigest(SINGLE_FILE, len(model), Digest.of(model))]))


def state_training(trained: Trained, key: SigningKey, now: int) -> Envelope:
    """The publisher's word on dataset, parameters and metrics, signed."""
    parameters = {name: str(value) for name, value in PARAMETERS.items()}
    training = Training(
        made=Made(Tool("keepstone-examples-digits", __version__), now),
        framework="scikit-learn",
        parameters=parameters | {"estimator": "MLPClassifier", "held_out": str(HELD_OUT)},
        metrics=trained.metrics,
        dataset=Input("uci-digits", trained.dataset),
        seed=SEED,
    )
    file_sha256 = Digest.of(trained.onnx)
    return make_statement(subject_of(trained.onnx), training, key, file_sha256=file_sha256)


def still_signed(folder: Path, model: bytes, key: SigningKey) -> bool:
    """Whether the folder's bundle and statement are about exactly this model, by this key."""
    path = folder / f"{NAME}.onnx"
    try:
        if path.read_bytes() != model:
            return False
        verify_model(path, Path(f"{path}.sig").read_bytes(), key.verifying)
        lines = Path(f"{path}.statements.jsonl").read_bytes().splitlines()
        envelopes = [Envelope.parse(line) for line in lines]
        for envelope in envelopes:
            verify_envelope(envelope, {key.key_id: key.verifying})
        return any(open_payload(e).subject == subject_of(model) for e in envelopes)
    except (OSError, InputError, VerificationError):
        return False


def publish(trained: Trained, folder: Path, key: SigningKey, now: int) -> bool:
    """Write everything into `folder`; return False where what was signed before still holds."""
    write_atomic(folder / "publisher.pub.pem", key.verifying.pem, mode=0o644)
    infer = {"name": "input", "shape": [1, 64], "datatype": "FP32", "data": trained.sample}
    write_atomic(
        folder / "sample.json",
        canonical({"id": f"a-{trained.label}", "inputs": [infer]}),
        mode=0o644,
    )
    write_atomic(folder / "held_out.npz", trained.held_out, mode=0o644)
    if still_signed(folder, trained.onnx, key):
        return False
    path = folder / f"{NAME}.onnx"
    write_atomic(path, trained.onnx, mode=0o644)
    write_atomic(Path(f"{path}.sig"), sign_model(path, key), mode=0o644)
    statement = state_training(trained, key, now).to_json()
    write_atomic(Path(f"{path}.statements.jsonl"), statement + b"\n", mode=0o644)
    return True


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train and publish the digits classifier.")
    parser.add_argument("--out", type=Path, default=Path("build/digits"), help="output folder")
    parser.add_argument("--key", type=Path, help="publisher's private key (OUT/publisher.pem)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        key = publisher_key(options.key or options.out / "publisher.pem")
        trained = train()
        fresh = publish(trained, options.out, key, SystemClock().now_ms())
    except KeepstoneError as error:
        print(f"error{error}\n  next: {error.next_step}", file=sys.stderr)
        return int(error.exit_code)
    print(
        f"{options.out / NAME}.onnx: accuracy {trained.metrics['accuracy']} on "
        f"{trained.metrics['test_samples']} digits it never saw, "
        f"{'signed' if fresh else 'signature kept'} by publisher {key.key_id[:16]}",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
