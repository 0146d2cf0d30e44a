"""Real models, few of them: what `bench/fingerprint.py` measures at length."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

from bench import fingerprint as bench
from keepstone.lab.ownership.asking import ask_all
from keepstone.lab.ownership.crossings import Kind, find_crossings
from keepstone.lab.ownership.judge import Outcome, calibrate, judge
from keepstone.lab.ownership.secret import Secret
from keepstone.lab.ownership.space import Space


def test_thefts_of_a_digits_model_match_and_independent_ones_do_not(
    need_module: Callable[[str], ModuleType],
) -> None:
    need_module("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC
    from threadpoolctl import threadpool_limits

    secret = Secret(bytes(32))
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        data = bench.Data()
        owner = data.fit(bench.perceptron(7, max_iter=40), data.mine)
        apart = {
            "logistic": data.fit(LogisticRegression(max_iter=200), data.theirs),
            "kernel": data.fit(SVC(), data.mine),
            "same kind, same data": data.fit(bench.perceptron(8, max_iter=40), data.mine),
            "same kind, other data": data.fit(bench.perceptron(9, max_iter=40), data.theirs),
        }
        stolen = {
            "copy": owner,
            "rounded": bench.Rounded(owner),
            "quantised": bench.weights_changed(owner, bench.quantised(8)),
            "pruned": bench.weights_changed(owner, bench.pruned(0.1)),
        }
        crossings = find_crossings(
            bench.labels_of(owner), Space.of(bench.CLASSES), secret, 100, bench.MARGIN
        )
        shown = {
            name: ask_all(bench.labels_of(model), crossings, secret, 1, 64)
            for name, model in (apart | stolen).items()
        }
    measured = calibrate([(sum(one is True for one in shown["logistic"]), 100)], Kind.LABEL)
    for null in (measured, calibrate([], Kind.LABEL)):
        found = {name: judge(matches, null).outcome for name, matches in shown.items()}
        assert found == dict.fromkeys(apart, Outcome.NO_MATCH) | dict.fromkeys(
            stolen, Outcome.MATCH
        )
