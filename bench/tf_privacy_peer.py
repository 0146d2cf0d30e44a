"""What TensorFlow Privacy 0.8.12 says of a model's answers, and what its training makes.

Runs in its own environment, with TensorFlow 2.15 and Keras 2.15. `python tf_privacy_peer.py FILE`
reads an archive of logits, labels and losses of members and others, of a training set and a
test set, and prints a line of JSON: each membership attack's rates, its epsilon, and the accuracy
of a network that its optimizer trained.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from tensorflow_privacy.privacy.analysis.compute_dp_sgd_privacy_lib import (
    compute_dp_sgd_privacy,
)
from tensorflow_privacy.privacy.optimizers.dp_optimizer_keras import (
    DPKerasAdamOptimizer,
)
from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
    membership_inference_attack as tests,
)
from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.data_structures import (
    AttackInputData,
    AttackType,
)


def attacks(data: Any) -> dict[str, Any]:
    """Each of its attacks on one model's answers: area, rates, CPU seconds."""
    found = {}
    for kind in AttackType:
        np.random.seed(int(data["seed"]))
        begin = time.process_time()
        given = AttackInputData(
            logits_train=data["scores"][data["inside"]],
            logits_test=data["scores"][~data["inside"]],
            labels_train=data["y"][data["inside"]],
            labels_test=data["y"][~data["inside"]],
            loss_train=data["losses"][data["inside"]],
            loss_test=data["losses"][~data["inside"]],
        )
        (one,) = tests.run_attacks(given, attack_types=[kind]).single_attack_results
        found[kind.value] = {
            "auc": float(one.get_auc()),
            "fpr": one.roc_curve.fpr.tolist(),
            "tpr": one.roc_curve.tpr.tolist(),
            "cpu_s": time.process_time() - begin,
        }
    return found


def trained(data: Any) -> dict[str, float]:
    """The accuracy of one hidden layer that its private Adam trained, and its epsilon."""
    tf.random.set_seed(int(data["seed"]))
    rows, batch, steps = len(data["x"]), int(data["batch"]), int(data["steps"])
    noise, clip = float(data["noise"]), float(data["clip"])
    model = tf.keras.Sequential([tf.keras.layers.Dense(32, "relu"), tf.keras.layers.Dense(10)])
    optimizer = DPKerasAdamOptimizer(
        l2_norm_clip=clip,
        noise_multiplier=noise,
        num_microbatches=batch,
        learning_rate=float(data["speed"]),
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=tf.losses.Reduction.NONE
    )
    model.compile(optimizer, loss, ["accuracy"])
    feed = tf.data.Dataset.from_tensor_slices((data["x"], data["labels"]))
    feed = feed.shuffle(rows, seed=int(data["seed"])).batch(batch, drop_remainder=True)
    begin = time.process_time()
    model.fit(feed.repeat(), steps_per_epoch=steps, epochs=1, verbose=0)
    spent = time.process_time() - begin
    _, accuracy = model.evaluate(data["x_test"], data["labels_test"], verbose=0)
    # It takes epochs, of which these are not whole.
    epsilon, _ = compute_dp_sgd_privacy(rows, batch, noise, steps * batch / rows, data["delta"])
    return {"accuracy": float(accuracy), "epsilon": float(epsilon), "cpu_s": spent}


def main(path: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with np.load(path) as archive:
        data = dict(archive)
    print(json.dumps(trained(data) if "x_test" in data else attacks(data)))


if __name__ == "__main__":
    main(sys.argv[1])
