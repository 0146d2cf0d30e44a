"""ART's learned membership attack, on the same forest; runs in its own environment.

`python membership_peer.py DATA.npz SEED`: trains the forest on the rows that are inside, fits the
attack on half of the members and half of the others (whose membership it is told), and prints a
line of JSON: for each kind of attack model the scores of the rest, and the CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
from art.attacks.inference.membership_inference import (
    MembershipInferenceBlackBox,
)
from art.estimators.classification import SklearnClassifier
from sklearn.ensemble import RandomForestClassifier


def main(path: str, seed: int) -> None:
    warnings.simplefilter("ignore")
    with np.load(path) as data:
        x, y, inside, trees = data["x"], data["y"], data["inside"], int(data["trees"])
    forest = RandomForestClassifier(trees, random_state=seed).fit(x[inside], y[inside])
    served = SklearnClassifier(forest, clip_values=(x.min(), x.max()))
    members, others = np.flatnonzero(inside), np.flatnonzero(~inside)
    told, rest = len(members) // 2, len(others) // 2
    found = {}
    for kind in ("rf", "gb"):
        begin = time.process_time()
        attack = MembershipInferenceBlackBox(served, attack_model_type=kind)
        first, second = members[:told], others[:rest]
        attack.fit(x[first], y[first], x[second], y[second])
        scores = [
            attack.infer(x[part], y[part], probabilities=True).ravel().tolist()
            for part in (members[told:], others[rest:])
        ]
        found[kind] = {
            "members": scores[0],
            "others": scores[1],
            "cpu_s": time.process_time() - begin,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
