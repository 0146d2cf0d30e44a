"""Objects that each framework's users pickle, for `tools.allowlist` to learn names from.

One generator per framework; what an installed version lacks is left out. Nothing here decides:
the names that come of it are reviewed as data.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any


def standard() -> Iterator[Any]:
    import argparse
    import array
    import collections
    import datetime
    import decimal
    import enum
    import fractions
    import ipaddress
    import pathlib
    import random
    import re
    import types
    import uuid
    import zoneinfo

    day = datetime.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=datetime.UTC)
    yield [day, day.date(), day.time(), day.timetz(), datetime.timedelta(3, 4)]
    yield datetime.datetime(2024, 5, 6, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "x"))
    yield day.astimezone(zoneinfo.ZoneInfo("Europe/Paris"))
    yield [decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.uuid4(), 1 + 2j]
    yield [set("ab"), frozenset("ab"), bytearray(b"ab"), range(4), slice(1, 2), b"bytes", b""]
    yield collections.OrderedDict(a=1)
    yield [
        collections.defaultdict(list, a=[1]),
        collections.defaultdict(int),
        collections.Counter("a"),
    ]
    yield [collections.deque([1, 2], 5), collections.ChainMap({}), collections.UserDict(a=1)]
    yield [collections.UserList([1])]
    yield [re.compile("a+"), argparse.Namespace(a=1), types.SimpleNamespace(a=1)]
    yield [pathlib.PurePosixPath("a/b"), pathlib.Path("a"), pathlib.PureWindowsPath("a")]
    yield [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_network("10.0.0.0/8")]
    yield [
        ipaddress.ip_address("::1"),
        ipaddress.ip_network("::/8"),
        ipaddress.ip_interface("::1/8"),
    ]
    yield ipaddress.ip_interface("10.0.0.1/8")
    yield [array.array("d", [1.0]), NotImplemented, ..., type(None), int, list, dict, object, str]
    yield [ValueError("a"), KeyError("a"), random.Random(1)]
    yield [complex, tuple, set, frozenset, bytes, bytearray, bool, float, len, sum, min, max, abs]
    yield [enum.Enum]


def numpy() -> Iterator[Any]:
    import numpy as np

    yield [np.arange(3), np.ones((2, 2), "f4", "F"), np.array(["a"]), np.array([b"a"]), np.array(1)]
    yield [np.array([1, None, "a"], object), np.array([1 + 2j]), np.array(["2024-01-01"], "M8[D]")]
    yield [np.array([1], "m8[s]"), np.zeros(2, [("a", "i4"), ("b", "U3", (2,))]), np.array([True])]
    yield np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    yield np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])[0]
    yield [
        np.ma.array([1, 2], mask=[False, True]),
        np.ma.masked,
        np.ma.array([(1, 2)], dtype=[("a", int), ("b", int)]),
    ]
    yield [np.matrix([[1, 2]]), np.char.array(["a"])]
    yield [
        np.float32(1),
        np.int64(2),
        np.bool_(True),
        np.str_("a"),
        np.bytes_(b"a"),
        np.datetime64("2024"),
    ]
    yield [
        np.dtype("f8"),
        np.dtype("O"),
        np.dtype([("a", "i4")]),
        np.dtype("M8[ns]"),
        np.dtype("U5"),
    ]
    yield [
        np.float64,
        np.float32,
        np.int64,
        np.bool_,
        np.object_,
        np.ndarray,
        np.generic,
        np.number,
    ]
    yield [np.random.RandomState(0), np.random.default_rng(0), np.random.SeedSequence(1)]
    yield [getattr(np.random, n)(1) for n in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")]
    yield [np.random.Generator(np.random.Philox(1)), np.random.mtrand._rand]
    yield [np.polynomial.Polynomial([1, 2]), np.polynomial.Chebyshev([1]), np.poly1d([1, 2])]
    yield [np.finfo("f8"), np.iinfo("i4")]
    yield [t.type for t in map(np.dtype, "?bBhHiIlLqQefdgFDGSUVMmO")]
    yield [getattr(np, n) for n in dir(np) if isinstance(getattr(np, n), np.ufunc)]
    for name in dir(getattr(np, "dtypes", None)):
        if name.endswith("DType"):
            with contextlib.suppress(TypeError):
                yield getattr(np.dtypes, name)()


def scipy() -> Iterator[Any]:
    import numpy as np
    import scipy.interpolate as interpolate
    import scipy.sparse as sparse
    import scipy.spatial as spatial
    import scipy.special as special
    import scipy.stats as stats

    eye = np.eye(3)
    for kind in ("csr", "csc", "coo", "lil", "dok", "dia", "bsr"):
        yield getattr(sparse, f"{kind}_matrix")(eye)
        if hasattr(sparse, f"{kind}_array"):
            yield getattr(sparse, f"{kind}_array")(eye)
    yield [interpolate.interp1d([0, 1], [0, 1]), interpolate.BSpline([0, 0, 1, 1], [1, 2], 1)]
    yield [
        interpolate.CubicSpline([0, 1, 2], [0, 1, 4]),
        interpolate.PchipInterpolator([0, 1], [0, 1]),
    ]
    yield [interpolate.UnivariateSpline(range(5), range(5)), spatial.KDTree(eye)]
    yield interpolate.RegularGridInterpolator((np.arange(3), np.arange(3)), eye)
    yield interpolate.RBFInterpolator(np.random.RandomState(0).rand(20, 3), np.arange(20))
    yield spatial.transform.Rotation.from_quat([0, 0, 0, 1])
    yield [getattr(special, n) for n in dir(special) if isinstance(getattr(special, n), np.ufunc)]
    for name in dir(stats):
        one = getattr(stats, name)
        if isinstance(one, (stats.rv_continuous, stats.rv_discrete)):
            yield one
            with contextlib.suppress(Exception):
                yield one(*([2] * one.numargs))
    yield [
        stats.uniform(0, 1),
        stats.loguniform(1e-3, 1),
        stats.randint(1, 9),
        stats.gaussian_kde([1, 2, 4.0]),
    ]
    from scipy.optimize import OptimizeResult

    yield OptimizeResult(x=eye)


def pandas() -> Iterator[Any]:
    import numpy as np
    import pandas as pd

    dates = pd.date_range("2024-01-01", periods=3)
    frame = pd.DataFrame({"i": [1, 2, 3], "f": [1.5, 2, 3], "s": ["a", "b", None], "d": dates})
    yield [frame, frame["i"], frame.set_index("s"), frame.set_index(["s", "i"]), frame[:0]]
    yield [frame.assign(t=dates.tz_localize("UTC"), p=dates.tz_localize("Europe/Paris"))]
    yield frame.astype({"s": "category"})
    yield [pd.Series([1, None], dtype="Int64"), pd.Series([True, None], dtype="boolean")]
    yield [pd.Series([1.5, None], dtype="Float64"), pd.Series(["a", None], dtype="string")]
    yield [pd.Series(["a"], dtype=object), pd.Series(pd.arrays.SparseArray([0, 0, 1]))]
    yield [
        pd.Series(pd.interval_range(0, 3)),
        pd.period_range("2024", periods=3, freq="M").to_series(),
    ]
    yield [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01", tz="UTC"), pd.Timedelta(1, "D")]
    yield [pd.Timestamp("2024-01-01", tz="Europe/Paris"), pd.NaT, pd.NA, pd.Period("2024", "Y")]
    yield [
        pd.Interval(0, 1),
        pd.Categorical(["a", "b"]),
        pd.CategoricalDtype(["a"]),
        pd.Int64Dtype(),
    ]
    yield [pd.RangeIndex(3), pd.Index([1.5]), pd.Index(["a"]), dates, dates.to_period("D")]
    yield [
        pd.MultiIndex.from_product([[1], ["a"]]),
        pd.CategoricalIndex(["a"]),
        pd.interval_range(0, 2),
    ]
    yield [pd.to_timedelta([1], "D"), pd.DatetimeTZDtype("ns", "UTC"), pd.PeriodDtype("M")]
    yield [pd.IntervalDtype("int64"), pd.SparseDtype("int64"), pd.StringDtype("python")]
    offsets = pd.tseries.offsets
    for name in offsets.__all__:
        with contextlib.suppress(Exception):
            yield getattr(offsets, name)()
    yield [frame.groupby("i").mean(numeric_only=True), frame.describe(), frame.T, frame.iloc[0]]
    yield pd.Series(np.arange(3), name=("a", "b"))
    yield [pd.Timestamp, pd.Series, pd.DataFrame, pd.Index]
    for kind in ("Int8", "Int16", "Int32", "UInt8", "UInt16", "UInt32", "UInt64", "Float32"):
        yield pd.array([1, None], dtype=kind)


def sklearn() -> Iterator[Any]:
    import numpy as np
    from sklearn import (
        base,
        calibration,
        compose,
        ensemble,
        feature_selection,
        gaussian_process,
        linear_model,
        metrics,
        model_selection,
        naive_bayes,
        neighbors,
        pipeline,
        preprocessing,
        svm,
        tree,
        utils,
    )
    from sklearn.utils import all_estimators

    rng = np.random.RandomState(0)
    x = rng.rand(40, 4)
    target = {"y": np.arange(40) % 2, "r": x[:, 0], "m": x[:, :2]}
    for _, kind in all_estimators():
        try:
            model = kind()
        except TypeError:
            continue
        yield model
        for y in (target["y"], target["r"], target["m"], None):
            with contextlib.suppress(Exception):
                yield base.clone(model).fit(x, y)
    for metric in ("euclidean", "manhattan", "minkowski", "haversine", "chebyshev", "hamming"):
        for algorithm in ("kd_tree", "ball_tree", "brute"):
            with contextlib.suppress(Exception):
                yield neighbors.KNeighborsClassifier(metric=metric, algorithm=algorithm).fit(
                    x[:, :2], target["y"]
                )
    for metric in (
        metrics.DistanceMetric.__subclasses__() if hasattr(metrics, "DistanceMetric") else ()
    ):
        with contextlib.suppress(Exception):
            yield metric()
    for criterion in ("gini", "entropy", "log_loss"):
        yield tree.DecisionTreeClassifier(criterion=criterion).fit(x, target["y"])
    for loss in ("squared_error", "absolute_error", "huber", "quantile", "poisson", "gamma"):
        for kind in (ensemble.HistGradientBoostingRegressor, ensemble.GradientBoostingRegressor):
            with contextlib.suppress(Exception):
                yield kind(loss=loss, quantile=0.5).fit(x, target["r"] + 1)
            with contextlib.suppress(Exception):
                yield kind(loss=loss).fit(x, target["r"] + 1)
    for loss in ("hinge", "log_loss", "log", "modified_huber", "squared_hinge", "perceptron"):
        with contextlib.suppress(Exception):
            yield linear_model.SGDClassifier(loss=loss).fit(x, target["y"])
    for loss in ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"):
        yield linear_model.SGDRegressor(loss=loss).fit(x, target["r"])
    for loss in ("log_loss", "exponential", "deviance"):
        with contextlib.suppress(Exception):
            yield ensemble.GradientBoostingClassifier(loss=loss).fit(x, target["y"])
    with contextlib.suppress(Exception):
        yield ensemble.HistGradientBoostingClassifier().fit(x, np.arange(40) % 3)
    yield ensemble.GradientBoostingClassifier(init="zero").fit(x, np.arange(40) % 3)
    lr, scale = linear_model.LogisticRegression(), preprocessing.StandardScaler()
    yield pipeline.make_pipeline(scale, lr).fit(x, target["y"])
    yield pipeline.make_union(scale, preprocessing.PolynomialFeatures()).fit(x)
    yield compose.make_column_transformer((scale, [0]), remainder="passthrough").fit(x)
    yield compose.make_column_transformer((scale, slice(0, 2)), ("drop", [3])).fit(x)
    yield compose.make_column_selector("a")
    yield compose.TransformedTargetRegressor(
        linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1
    )
    yield model_selection.GridSearchCV(lr, {"C": [1, 2]}, cv=2).fit(x, target["y"])
    for name in dir(model_selection):
        kind = getattr(model_selection, name)
        if isinstance(kind, type) and hasattr(kind, "split"):
            with contextlib.suppress(Exception):
                yield kind()
    yield model_selection.ParameterGrid({"a": [1]})
    voting = [("a", lr), ("b", naive_bayes.GaussianNB())]
    yield ensemble.VotingClassifier(voting).fit(x, target["y"])
    yield ensemble.StackingClassifier(voting).fit(x, target["y"])
    yield calibration.CalibratedClassifierCV(svm.LinearSVC()).fit(x, target["y"])
    yield calibration.CalibratedClassifierCV(lr, method="isotonic").fit(x, target["y"])
    kernels = gaussian_process.kernels
    kernel = kernels.ConstantKernel() * kernels.RBF() + kernels.WhiteKernel() + kernels.Matern()
    yield gaussian_process.GaussianProcessRegressor(kernel).fit(x, target["r"])
    yield [kernels.RationalQuadratic() ** 2, kernels.ExpSineSquared(), kernels.DotProduct()]
    yield [preprocessing.FunctionTransformer(np.log1p), utils.Bunch(a=1)]
    yield preprocessing.FunctionTransformer(np.log1p, np.expm1).fit(x)
    yield [
        feature_selection.SelectKBest(getattr(feature_selection, name))
        for name in (
            "f_classif",
            "f_regression",
            "chi2",
            "mutual_info_classif",
            "mutual_info_regression",
        )
    ]
    for name in _scorers(metrics):
        yield metrics.get_scorer(name)
    yield metrics.make_scorer(metrics.fbeta_score, beta=2)
    yield preprocessing.SplineTransformer().fit(x)
    yield preprocessing.OneHotEncoder().fit([["a"], ["b"]])
    from sklearn import datasets, feature_extraction

    yield [datasets.load_iris(), datasets.load_diabetes()]
    yield feature_extraction.text.TfidfVectorizer().fit(["a bc", "bc de"])
    yield feature_extraction.text.CountVectorizer(ngram_range=(1, 2)).fit(["a bc", "bc de"])
    yield feature_extraction.DictVectorizer().fit([{"a": 1}])


def _scorers(metrics: Any) -> list[str]:
    try:
        return list(metrics.get_scorer_names())
    except AttributeError:
        return list(metrics.SCORERS)


def lightgbm() -> Iterator[Any]:
    import lightgbm as lgb
    import numpy as np

    x = np.random.RandomState(0).rand(60, 3)
    y = np.arange(60) % 2
    kinds = (lgb.LGBMClassifier, lgb.LGBMRegressor)
    for kind in kinds:
        yield kind()
        yield kind(n_estimators=2, verbose=-1).fit(x, y)
        yield kind(n_estimators=2, verbose=-1).fit(x, y).booster_
    yield lgb.LGBMRanker(n_estimators=2, verbose=-1).fit(x, y, group=[30, 30])


def xgboost() -> Iterator[Any]:
    import numpy as np
    import xgboost as xgb

    x = np.random.RandomState(0).rand(60, 3)
    y = np.arange(60) % 2
    for kind in (xgb.XGBClassifier, xgb.XGBRegressor, xgb.XGBRFClassifier, xgb.XGBRFRegressor):
        yield kind()
        model = kind(n_estimators=2).fit(x, y)
        yield model
        yield model.get_booster()
    yield xgb.XGBRanker(n_estimators=2).fit(x, y, qid=np.arange(60) // 30)
    yield xgb.XGBClassifier(callbacks=[xgb.callback.EarlyStopping(2)])


def torch() -> Iterator[Any]:
    import collections

    import torch as t

    net = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.BatchNorm1d(4), t.nn.ReLU(), t.nn.Linear(4, 1))
    yield [net.state_dict(), collections.OrderedDict(a=t.ones(2)), t.Size([1, 2]), t.device("cpu")]
    yield net
    for name in t.optim.__all__ if hasattr(t.optim, "__all__") else ():
        kind = getattr(t.optim, name)
        with contextlib.suppress(Exception):
            one = kind(net.parameters(), lr=0.1)
            net(t.ones(2, 3)).sum().backward()
            one.step()
            yield one.state_dict()
            yield one
    one = t.optim.SGD(net.parameters(), 0.1)
    for kind, args in (
        ("StepLR", (2,)),
        ("CosineAnnealingLR", (2,)),
        ("ExponentialLR", (0.9,)),
        ("ReduceLROnPlateau", ()),
        ("MultiStepLR", ([1, 2],)),
        ("OneCycleLR", (1, 10)),
    ):
        scheduler = getattr(t.optim.lr_scheduler, kind)(one, *args)
        yield scheduler.state_dict()
    kinds = (
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
        " uint16 uint32 uint64 float8_e4m3fn float8_e5m2 quint8 qint8 qint32"
    )
    for name in kinds.split():
        if hasattr(t, name):
            yield getattr(t, name)
            with contextlib.suppress(Exception):
                yield t.zeros(2, dtype=getattr(t, name))
    yield [t.quantize_per_tensor(t.ones(3), 0.1, 0, t.qint8), t.ones(2).to_sparse()]
    yield t.quantize_per_channel(t.ones(2, 2), t.ones(2), t.zeros(2), 0, t.qint8)
    yield [t.ones(2, 2).to_sparse_csr(), t.nn.Parameter(t.ones(1)), t.ones(2, requires_grad=True)]
    yield [t.nn.Buffer(t.ones(1)) if hasattr(t.nn, "Buffer") else 1, t.ones(2, device="meta")]
    yield [t.strided, t.sparse_coo, t.preserve_format, t.contiguous_format, t.channels_last]
    yield [
        t.Generator().get_state(),
        t.finfo(t.float32) and 1,
        t.nn.ParameterList([t.nn.Parameter(t.ones(1))]),
    ]
    for name in dir(t.nn):
        kind = getattr(t.nn, name)
        if isinstance(kind, type) and issubclass(kind, t.nn.Module):
            for count in range(5):
                with contextlib.suppress(Exception):
                    yield kind(*[2] * count)
                    break


def cloudpickle() -> Iterator[Any]:
    yield from ()


SPECIMENS: dict[str, Callable[[], Iterator[Any]]] = {
    "python": standard,
    "numpy": numpy,
    "scipy": scipy,
    "pandas": pandas,
    "sklearn": sklearn,
    "lightgbm": lightgbm,
    "xgboost": xgboost,
    "torch": torch,
}


def specimens(framework: str) -> Iterator[Any]:
    """Everything that users of `framework` pickle, as far as the installed version makes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from SPECIMENS[framework]()
