"""How often a fingerprint accuses an independent model, and which thefts it finds.

`python -m bench.fingerprint` prints the whole table. Owners are digits classifiers trained on one
half of the data; independent models are trained on either half, with other seeds, architectures
and learners; stolen ones are made from the owner's in the ways that people do it. The peer is
IPGuard's test on the very same rows: how many single answers agree, with the same calibration.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.contract.validate import Array
from keepstone.lab.ownership.asking import ask_all
from keepstone.lab.ownership.crossings import Answer, Ask, Crossing, Kind, find_crossings
from keepstone.lab.ownership.judge import Null, Outcome, calibrate, judge, wilson
from keepstone.lab.ownership.secret import Secret
from keepstone.lab.ownership.space import Space

COUNT, MARGIN = 150, 0.16
CALIBRATORS = 4
CLASSES = ModelContract(
    (TensorSpec("input", DType.FP32, (-1, 64), low=0.0, high=16.0),),
    (TensorSpec("label", DType.INT64, (-1,)),),
)
Model = Any


def labels_of(model: Model) -> Ask:
    def ask(rows: Array) -> Sequence[Answer]:
        return [str(label) for label in model.predict(rows.astype(np.float32))]

    return ask


def numbers_of(model: Model) -> Ask:
    def ask(rows: Array) -> Sequence[Answer]:
        return [float(value) for value in model.predict(rows)]

    return ask


class Data:
    """The digits in two halves that share no picture."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.data))
        half = len(order) // 2
        self.x, self.y = digits.data.astype(np.float32), digits.target
        self.mine, self.theirs = order[:half], order[half:]

    def fit(self, model: Model, rows: Array) -> Model:
        return model.fit(self.x[rows], self.y[rows])


def perceptron(seed: int, layers: tuple[int, ...] = (64,), **given: Any) -> Model:
    from sklearn.neural_network import MLPClassifier

    settings = {"alpha": 0.01, "max_iter": 120, "n_iter_no_change": 200} | given
    return MLPClassifier(layers, random_state=seed, **settings)


def owners(data: Data) -> dict[str, Model]:
    return {
        "64": data.fit(perceptron(7), data.mine),
        "128": data.fit(perceptron(8, (128,)), data.mine),
        "32+32": data.fit(perceptron(9, (32, 32)), data.mine),
    }


def independents(data: Data) -> dict[str, Model]:
    """26 models of six kinds; the first of them calibrate, the others are accused or not."""
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    found: dict[str, Model] = {}
    for half, rows in (("their half", data.theirs), ("the same half", data.mine)):
        found |= {
            f"logistic, {half}": data.fit(LogisticRegression(max_iter=1000), rows),
            f"forest, {half}": data.fit(RandomForestClassifier(100, random_state=1), rows),
        }
    for half, rows in (("their half", data.theirs), ("the same half", data.mine)):
        for seed in range(5):
            found[f"64 #{seed}, {half}"] = data.fit(perceptron(100 + seed), rows)
        found |= {
            f"128, {half}": data.fit(perceptron(1, (128,)), rows),
            f"32+32, {half}": data.fit(perceptron(2, (32, 32)), rows),
            f"tanh, {half}": data.fit(perceptron(3, activation="tanh"), rows),
            f"trees, {half}": data.fit(ExtraTreesClassifier(100, random_state=2), rows),
            f"kernel, {half}": data.fit(SVC(), rows),
            f"neighbours, {half}": data.fit(KNeighborsClassifier(3), rows),
        }
    return found


# Thefts


def weights_changed(model: Model, change: Callable[[Array], Array]) -> Model:
    stolen = copy.deepcopy(model)
    stolen.coefs_ = [change(weights) for weights in stolen.coefs_]
    return stolen


def quantised(bits: int) -> Callable[[Array], Array]:
    def change(weights: Array) -> Array:
        step = np.abs(weights).max() / (2 ** (bits - 1) - 1)
        return np.asarray(np.round(weights / step) * step)

    return change


def pruned(part: float) -> Callable[[Array], Array]:
    def change(weights: Array) -> Array:
        return np.where(np.abs(weights) < np.quantile(np.abs(weights), part), 0.0, weights)

    return change


def noisy(part: float, seed: int) -> Callable[[Array], Array]:
    draw = np.random.default_rng(seed)
    return lambda weights: weights + draw.normal(size=weights.shape) * part * weights.std()


def tuned(data: Data, model: Model, rounds: int, seed: int) -> Model:
    """Trained on with pictures of the other half, a tenth of whose labels are wrong."""
    draw = np.random.default_rng(seed)
    stolen = copy.deepcopy(model)
    rows = draw.permutation(data.theirs)[:450]
    labels = data.y[rows].copy()
    wrong = draw.random(len(rows)) < 0.1
    labels[wrong] = draw.integers(0, 10, int(wrong.sum()))
    for _ in range(rounds):
        stolen.partial_fit(data.x[rows], labels)
    return stolen


def extracted(data: Data, model: Model, budget: int, seed: int, *, pictures: bool) -> Model:
    """Trained on nothing but the answers to `budget` queries (Knockoff Nets, Orekondy 2019)."""
    draw = np.random.default_rng(seed)
    if pictures:
        rows = data.x[data.theirs][draw.integers(0, len(data.theirs), budget)]
        queries = np.clip(rows + draw.normal(size=rows.shape) * 2, 0, 16)
    else:
        queries = Space.of(CLASSES).draw(Secret(draw.bytes(32)), budget)
    queries = queries.astype(np.float32)
    return perceptron(seed, max_iter=60, alpha=0.001).fit(queries, model.predict(queries))


class Rounded:
    """Answers the class whose score is greatest after rounding to one digit."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, rows: Array) -> Array:
        scores = np.round(self.model.predict_proba(rows), 1)
        return np.asarray(self.model.classes_[scores.argmax(axis=1)])


class Exported:
    """The same model in another format and element type: ONNX, run by onnxruntime."""

    def __init__(self, model: Model) -> None:
        import onnxruntime  # type: ignore[import-untyped]
        from skl2onnx import to_onnx

        made = to_onnx(model, np.zeros((1, 64), np.float32), options={id(model): {"zipmap": False}})
        self._session = onnxruntime.InferenceSession(
            made.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def predict(self, rows: Array) -> Array:
        return np.asarray(self._session.run(None, {"X": rows.astype(np.float32)})[0])


def thefts(data: Data, model: Model) -> Iterator[tuple[str, Model]]:
    yield "exact copy", copy.deepcopy(model)
    yield "re-serialised as ONNX", Exported(model)
    yield "scores rounded to 1 digit", Rounded(model)
    for bits in (8, 4):
        yield f"weights quantised to {bits} bits", weights_changed(model, quantised(bits))
    for part in (0.1, 0.3, 0.5):
        yield f"{part:.0%} of the weights pruned", weights_changed(model, pruned(part))
    for seed in range(3):
        yield "10% noise on the weights", weights_changed(model, noisy(0.1, seed))
        for rounds in (3, 10, 30):
            yield f"fine-tuned, {rounds} rounds, 10% wrong labels", tuned(data, model, rounds, seed)
        for budget in (1000, 5000, 20_000):
            one = extracted(data, model, budget, seed, pictures=True)
            yield f"extracted, {budget:,} pictures", one
            one = extracted(data, model, budget, seed, pictures=False)
            yield f"extracted, {budget:,} drawn inputs", one


# The measurement


class Table:
    """Counts of matches by what was asked, for one way to know the null."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[bool, float]]] = defaultdict(list)

    def add(self, what: str, matches: Sequence[bool | None], null: Null) -> None:
        judged = judge(matches, null)
        hit = judged.outcome is Outcome.MATCH
        self.found[what].append((hit, judged.matches / max(judged.answered, 1)))

    def rate(self, what: str) -> tuple[int, int]:
        return sum(hit for hit, _ in self.found[what]), len(self.found[what])

    def line(self, what: str) -> str:
        hits, count = self.rate(what)
        low, high = wilson(hits, count)
        shown = [rate for _, rate in self.found[what]]
        spread = f"{min(shown):.2f}-{max(shown):.2f}"
        return f"{what:<44} {hits:>3} of {count:<3} {low:6.1%} to {high:6.1%}   crossings {spread}"


FALSE = "independent models accused"


def agreement(ask: Ask, crossings: Sequence[Crossing]) -> list[bool | None]:
    """IPGuard's question on the same rows: does each single answer agree?"""
    given = list(ask(np.concatenate([one.rows for one in crossings])))
    told = [answer for one in crossings for answer in one.answers]
    return [one == other for one, other in zip(given, told, strict=True)]


def calibrated(
    others: dict[str, Ask], found: Callable[[Ask], list[bool | None]]
) -> tuple[Null, dict[str, Ask]]:
    names = list(others)
    rates = []
    for name in names[:CALIBRATORS]:
        matches = found(others[name])
        rates.append((sum(one is True for one in matches), len(matches)))
    return _calibrate(rates), {name: others[name] for name in names[CALIBRATORS:]}


def _calibrate(rates: list[tuple[int, int]]) -> Null:
    """As `calibrate`, but for the peer, which would be refused as too weak."""
    return Null(max(wilson(hits, count, 2.326)[1] for hits, count in rates), len(rates))


def measure(log: Callable[[str], None] = lambda line: None) -> dict[str, Table]:
    """Every owner against every model, under each null: `calibrated`, `assumed`, and the peer."""
    data = Data()
    others = {name: labels_of(model) for name, model in independents(data).items()}
    tables = {name: Table() for name in ("calibrated", "assumed", "peer")}
    for number, (name, owner) in enumerate(owners(data).items()):
        secret = Secret(bytes([number]) * 32)
        crossings = find_crossings(labels_of(owner), Space.of(CLASSES), secret, COUNT, MARGIN)

        ours = partial(ask_all, crossings=crossings, secret=secret, turn=1, batch=64)
        theirs = partial(agreement, crossings=crossings)
        null, held_out = calibrated(others, ours)
        peer_null, _ = calibrated(others, theirs)
        log(f"owner {name}: null {null.rate:.3f} (peer {peer_null.rate:.3f})")
        suspects = [(FALSE, ask) for ask in held_out.values()]
        suspects += [(kind, labels_of(model)) for kind, model in thefts(data, owner)]
        for kind, ask in suspects:
            matches = ours(ask)
            tables["calibrated"].add(kind, matches, null)
            tables["assumed"].add(kind, matches, calibrate([], Kind.LABEL))
            tables["peer"].add(kind, theirs(ask), peer_null)
    return tables


# Numbers


def measure_numbers(log: Callable[[str], None] = lambda line: None) -> Table:
    """The same for models that answer a number: the diabetes data, perceptrons and others."""
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.svm import SVR

    rows, values = load_diabetes(return_X_y=True)
    rows, values = rows * 20, (values - values.mean()) / values.std()
    half = len(rows) // 2
    low, high = tuple(rows.min(axis=0).tolist()), tuple(rows.max(axis=0).tolist())
    contract = ModelContract(
        (TensorSpec("x", DType.FP64, (-1, rows.shape[1]), low=low, high=high),),
        (TensorSpec("y", DType.FP64, (-1,)),),
    )

    def fit(model: Model, part: slice) -> Model:
        return model.fit(rows[part], values[part])

    def network(seed: int, layers: tuple[int, ...] = (64,)) -> Model:
        return MLPRegressor(hidden_layer_sizes=layers, random_state=seed, max_iter=300, alpha=0.01)

    mine, theirs = slice(0, half), slice(half, None)
    others: dict[str, Model] = {}
    for part in (theirs, mine):
        others[f"forest {part}"] = fit(RandomForestRegressor(100, random_state=1), part)
        others[f"kernel {part}"] = fit(SVR(C=10), part)
    for part in (theirs, mine):
        others[f"boosted {part}"] = fit(GradientBoostingRegressor(random_state=1), part)
        others[f"wide {part}"] = fit(network(3, (128,)), part)
        for seed in range(7):
            others[f"network {seed} {part}"] = fit(network(10 + seed), part)
    owner = fit(network(7), mine)
    secret = Secret(b"numbers, for the bench: 32 bytes")
    crossings = find_crossings(numbers_of(owner), Space.of(contract), secret, COUNT, MARGIN)

    ours = partial(ask_all, crossings=crossings, secret=secret, turn=1, batch=64)
    null, held_out = calibrated({n: numbers_of(m) for n, m in others.items()}, ours)
    log(f"numbers: null {null.rate:.3f}")
    table = Table()
    for ask in held_out.values():
        table.add(FALSE, ours(ask), null)
    exact = numbers_of(owner)

    def changed(change: Callable[[float], float]) -> Ask:
        return lambda asked: [change(float(one)) for one in exact(asked) if one is not None]

    table.add("exact copy", ours(exact), null)
    table.add("rescaled (3 y + 1)", ours(changed(lambda value: 3 * value + 1)), null)
    table.add("rounded to 2 digits", ours(changed(lambda value: round(value, 2))), null)
    table.add("rounded to 1 digit", ours(changed(lambda value: round(value, 1))), null)
    for seed in range(3):
        stolen = weights_changed(owner, noisy(0.1, seed))
        table.add("10% noise on the weights", ours(numbers_of(stolen)), null)
        stolen = copy.deepcopy(owner)
        for _ in range(10):
            stolen.partial_fit(rows[theirs], values[theirs])
        table.add("fine-tuned, 10 rounds", ours(numbers_of(stolen)), null)
        for budget in (1000, 5000):
            queries = Space.of(contract).draw(Secret(bytes([seed + 1]) * 32), budget)
            stolen = network(seed).fit(queries, owner.predict(queries))
            table.add(f"extracted, {budget:,} drawn inputs", ours(numbers_of(stolen)), null)
    return table


def rows() -> list[dict[str, Any]]:
    """False accusations and thefts found, beside the peer's on the same rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tables = measure()
    found, peer = tables["calibrated"], tables["peer"]

    def share(table: Table, names: Sequence[str]) -> float:
        counts = [table.rate(name) for name in names]
        return 100 * sum(hits for hits, _ in counts) / sum(count for _, count in counts)

    stolen = [name for name in found.found if name != FALSE]
    measured: tuple[tuple[str, list[str], str, Callable[[float, float], bool]], ...] = (
        ("fingerprint.false_accusations", [FALSE], "0 %", lambda ours, _: ours == 0),
        (
            "fingerprint.thefts_found",
            stolen,
            "more than the peer",
            lambda ours, other: ours > other,
        ),
    )
    return [
        {
            "name": name,
            "ours": share(found, names),
            "peer": "IPGuard's agreement",
            "peer_value": share(peer, names),
            "unit": "%",
            "ratio": share(found, names) / max(share(peer, names), 1e-9),
            "target": target,
            "met": bool(met(share(found, names), share(peer, names))),
        }
        for name, names, target, met in measured
    ]


def main() -> None:
    warnings.simplefilter("ignore")

    def log(line: str) -> None:
        print(line, file=sys.stderr)

    for title, table in measure(log).items():
        print(f"\n{title} null")
        for what in table.found:
            print(f"  {table.line(what)}")
    print("\nnumbers, calibrated null")
    table = measure_numbers(log)
    for what in table.found:
        print(f"  {table.line(what)}")


if __name__ == "__main__":
    main()
