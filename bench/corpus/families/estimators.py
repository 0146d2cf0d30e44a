"""Honest estimators of scikit-learn, fitted, as users pickle them; and some of SciPy's values."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

from bench.corpus.case import Case, good, need, zipped


def _data(seed: int) -> tuple[Any, Any, Any]:
    numpy = need("numpy")
    rows = numpy.random.default_rng(seed).normal(size=(60, 4))
    labels = (rows[:, 0] + rows[:, 1] > 0).astype(int)
    return rows, labels, rows @ numpy.array([1.0, -2.0, 0.5, 0.0])


_SUPERVISED = (
    "linear_model LinearRegression",
    "linear_model Ridge",
    "linear_model Lasso",
    "linear_model ElasticNet",
    "linear_model LogisticRegression",
    "linear_model SGDClassifier",
    "linear_model SGDRegressor",
    "linear_model Perceptron",
    "linear_model BayesianRidge",
    "linear_model HuberRegressor",
    "linear_model RidgeClassifier",
    "linear_model LassoCV",
    "linear_model PoissonRegressor",
    "linear_model PassiveAggressiveClassifier",
    "svm SVC",
    "svm SVR",
    "svm LinearSVC",
    "svm NuSVC",
    "tree DecisionTreeClassifier",
    "tree DecisionTreeRegressor",
    "tree ExtraTreeClassifier",
    "neighbors KNeighborsClassifier",
    "neighbors KNeighborsRegressor",
    "neighbors NearestCentroid",
    "naive_bayes GaussianNB",
    "naive_bayes BernoulliNB",
    "neural_network MLPClassifier",
    "neural_network MLPRegressor",
    "gaussian_process GaussianProcessClassifier",
    "gaussian_process GaussianProcessRegressor",
    "discriminant_analysis LinearDiscriminantAnalysis",
    "discriminant_analysis QuadraticDiscriminantAnalysis",
    "ensemble RandomForestClassifier",
    "ensemble RandomForestRegressor",
    "ensemble ExtraTreesClassifier",
    "ensemble GradientBoostingClassifier",
    "ensemble GradientBoostingRegressor",
    "ensemble HistGradientBoostingClassifier",
    "ensemble HistGradientBoostingRegressor",
    "ensemble AdaBoostClassifier",
    "ensemble BaggingClassifier",
    "dummy DummyClassifier",
    "calibration CalibratedClassifierCV",
    "kernel_ridge KernelRidge",
    "isotonic IsotonicRegression",
    "cross_decomposition PLSRegression",
    "semi_supervised LabelPropagation",
    "feature_selection SelectKBest",
)
_UNSUPERVISED = (
    "cluster KMeans",
    "cluster MiniBatchKMeans",
    "cluster DBSCAN",
    "cluster AgglomerativeClustering",
    "cluster Birch",
    "cluster MeanShift",
    "cluster SpectralClustering",
    "mixture GaussianMixture",
    "mixture BayesianGaussianMixture",
    "decomposition PCA",
    "decomposition TruncatedSVD",
    "decomposition FastICA",
    "decomposition KernelPCA",
    "decomposition FactorAnalysis",
    "manifold Isomap",
    "ensemble IsolationForest",
    "svm OneClassSVM",
    "covariance EllipticEnvelope",
    "neighbors LocalOutlierFactor",
    "neighbors KernelDensity",
    "neighbors NearestNeighbors",
    "preprocessing StandardScaler",
    "preprocessing MinMaxScaler",
    "preprocessing RobustScaler",
    "preprocessing Normalizer",
    "preprocessing PolynomialFeatures",
    "preprocessing PowerTransformer",
    "preprocessing QuantileTransformer",
    "preprocessing KBinsDiscretizer",
    "preprocessing SplineTransformer",
    "impute SimpleImputer",
    "impute KNNImputer",
    "feature_selection VarianceThreshold",
    "kernel_approximation RBFSampler",
    "random_projection GaussianRandomProjection",
)
_CHANGES: dict[str, dict[str, Any]] = {
    "GaussianRandomProjection": {"n_components": 2},
    "MLPClassifier": {"max_iter": 20},
    "MLPRegressor": {"max_iter": 20},
    "RandomForestClassifier": {"n_estimators": 5},
    "RandomForestRegressor": {"n_estimators": 5},
    "ExtraTreesClassifier": {"n_estimators": 5},
    "GradientBoostingClassifier": {"n_estimators": 5},
    "SelectKBest": {"k": 2},
    "GradientBoostingRegressor": {"n_estimators": 5},
    "IsolationForest": {"n_estimators": 5},
    "AdaBoostClassifier": {"n_estimators": 5},
    "BaggingClassifier": {"n_estimators": 3},
    "HistGradientBoostingClassifier": {"max_iter": 3},
    "QuantileTransformer": {"n_quantiles": 10},
    "HistGradientBoostingRegressor": {"max_iter": 3},
    "KBinsDiscretizer": {"n_bins": 3},
}


def _estimator(named: str, seed: int) -> Any:
    module, name = named.split(" ")
    kind = getattr(need(f"sklearn.{module}"), name)
    options = dict(_CHANGES.get(name, {}))
    if "random_state" in kind(**options).get_params():
        options["random_state"] = seed
    return kind(**options)


def _fitted(seed: int) -> Iterator[Case]:
    need("sklearn")
    rows, labels, numbers = _data(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index, named in enumerate(_SUPERVISED):
            estimator = _estimator(named, seed)
            regression = named.endswith(
                ("Regressor", "Regression", "Ridge", "Lasso", "LassoCV", "ElasticNet", "SVR")
            )
            target = numbers if regression and "Logistic" not in named else labels
            target = abs(target) if "Poisson" in named else target
            given = rows[:, 0] if "Isotonic" in named else rows
            estimator.fit(given, target)
            yield good(f"{named.replace(' ', '.')}.pkl", pickle.dumps(estimator, 2 + index % 4))
        for index, named in enumerate(_UNSUPERVISED):
            estimator = _estimator(named, seed).fit(rows)
            yield good(f"{named.replace(' ', '.')}.pkl", pickle.dumps(estimator, 2 + index % 4))


def _composed(seed: int) -> Iterator[Case]:
    rows, labels, numbers = _data(seed)
    pipeline, preprocessing = need("sklearn.pipeline"), need("sklearn.preprocessing")
    linear, compose = need("sklearn.linear_model"), need("sklearn.compose")
    ensemble, selection = need("sklearn.ensemble"), need("sklearn.model_selection")
    text = need("sklearn.feature_extraction.text")
    forest = ensemble.RandomForestClassifier(3, random_state=seed)
    columns = compose.ColumnTransformer(
        [
            ("scale", preprocessing.StandardScaler(), [0, 1]),
            ("bins", preprocessing.KBinsDiscretizer(3), [2]),
        ],
        remainder="passthrough",
    )
    models = {
        "pipeline": pipeline.make_pipeline(
            preprocessing.StandardScaler(), linear.LogisticRegression()
        ),
        "columns": pipeline.make_pipeline(columns, forest),
        "union": pipeline.make_union(
            preprocessing.StandardScaler(), need("sklearn.decomposition").PCA(2)
        ),
        "voting": ensemble.VotingClassifier([("a", linear.LogisticRegression()), ("b", forest)]),
        "stacking": ensemble.StackingClassifier([("a", linear.LogisticRegression())], cv=2),
        "grid": selection.GridSearchCV(linear.LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
        "one_vs_rest": need("sklearn.multiclass").OneVsRestClassifier(linear.LogisticRegression()),
        "target": compose.TransformedTargetRegressor(
            linear.Ridge(), transformer=preprocessing.StandardScaler()
        ),
        "function_of_numpy": pipeline.make_pipeline(
            preprocessing.FunctionTransformer(need("numpy").log1p, validate=False),
            linear.LogisticRegression(),
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for slug, model in models.items():
            target = numbers if slug == "target" else labels
            given = abs(rows) if "numpy" in slug else rows
            yield good(f"{slug}.pkl", pickle.dumps(model.fit(given, target), 4))
    words = ["a cat sat", "the dog ran", "a bird sang", "the fish swam"]
    for slug, kind in {
        "counts": text.CountVectorizer,
        "tfidf": text.TfidfVectorizer,
        "hashing": text.HashingVectorizer,
    }.items():
        model = pipeline.make_pipeline(kind(), linear.LogisticRegression())
        yield good(f"text_{slug}.pkl", pickle.dumps(model.fit(words, [0, 1, 0, 1]), 4))
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore").fit([["a"], ["b"]])
    yield good("one_hot.pkl", pickle.dumps(encoder, 4))
    yield good("ordinal.pkl", pickle.dumps(preprocessing.OrdinalEncoder().fit([["a"], ["b"]]), 4))
    yield good("labels.pkl", pickle.dumps(preprocessing.LabelEncoder().fit(["a", "b"]), 4))
    yield good("unfitted.pkl", pickle.dumps(linear.Ridge(), 4))
    yield good(
        "several.pkl",
        pickle.dumps(
            {"scaler": preprocessing.StandardScaler().fit(rows), "model": forest.fit(rows, labels)},
            4,
        ),
    )


def _scipy(seed: int) -> Iterator[Case]:
    sparse, numpy = need("scipy.sparse"), need("numpy")
    matrix = sparse.random(8, 6, 0.3, random_state=numpy.random.default_rng(seed))
    for kind in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia"):
        yield good(f"sparse_{kind}.pkl", pickle.dumps(matrix.asformat(kind), 4))
    out = io.BytesIO()
    sparse.save_npz(out, matrix.tocsr(), compressed=False)
    yield good("sparse.npz", _undated(out.getvalue()), "scipy.load_npz")
    yield good("tree.pkl", pickle.dumps(need("scipy.spatial").cKDTree(_data(seed)[0]), 4))
    spline = need("scipy.interpolate").CubicSpline([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 4.0, 9.0])
    yield good("spline.pkl", pickle.dumps(spline, 4))
    yield good("norm.pkl", pickle.dumps(need("scipy.stats").norm(1.0, 2.0), 4))


def _undated(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return zipped([(info.filename, archive.read(info)) for info in archive.infolist()])


def _skops(seed: int) -> Iterator[Case]:
    rows, labels, _ = _data(seed)
    model = need("sklearn.linear_model").LogisticRegression().fit(rows, labels)
    yield good("logistic.skops", _undated(need("skops.io").dumps(model)), "skops.load")


PARTS = (_fitted, _composed, _scipy, _skops)
