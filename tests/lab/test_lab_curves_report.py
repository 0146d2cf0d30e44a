"""The report of extractions and membership audits: what stands in it, and what cannot get in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.attacks.privacy.loss_threshold import LossThreshold
from keepstone.lab.attacks.privacy.membership import audit_membership
from keepstone.lab.metrics.roc import roc_of
from keepstone.lab.report.axes import Axis, Told
from keepstone.lab.report.charts import Band, band_chart
from keepstone.lab.report.curves import write_curves
from keepstone.lab.report.documents import (
    Extraction,
    Membership,
    read_document,
    read_found,
    same_model,
)
from keepstone.lab.report.html import write_html
from keepstone.lab.report.roc import histogram, roc_chart
from tests.lab.browser import Browser
from tests.lab.fakes import halves
from tests.lab.test_lab_report import Page
from tests.lab.test_lab_suites import run

MODEL = Digest.of(b"a model")
MARKUP = '"><script>alert(1)</script><img src=x onerror=a()>'


def copies(name: str = "knockoff", **given: Any) -> dict[str, Any]:
    points = [(20, 0.5), (60, 0.7), (250, 0.9)]
    curve = [
        {
            "queries": queries,
            "units": round(queries / 7, 3),
            "unanswered": 0,
            "measured": True,
            "agreement": {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 300},
            "accuracy": {"value": value - 0.1, "low": value - 0.2, "high": value, "n": 300},
            "constant": 0.4,
            "problems": [],
        }
        for queries, value in points
    ]
    told = {"name": name, "attack": f"{name}(rate=1.0)", "paper": "Orekondy et al. 2019"}
    told |= {"atlas": "AML.T0024.002", "seed": 7, "budget": 250, "asked": 250, "curve": curve}
    return told | given


def extraction(**given: Any) -> dict[str, Any]:
    found = {"schema": "keepstone.extraction/v1", "verdict": "pass", "target": "net.onnx"}
    found |= {"digest": str(MODEL), "data": str(Digest.of(b"rows")), "at_most": 0.97}
    return found | {"attacks": [copies()], "not_evaluated": []} | given


def membership(**given: Any) -> dict[str, Any]:
    """Of a target that is a little surer of its first rows."""
    target = halves()
    rng = np.random.default_rng(3)
    x = target.domain.draw(1200)
    y = np.where(rng.random(1200) < 0.1, 1 - target.predict(x).labels, target.predict(x).labels)
    known = np.arange(1200) < 600
    found = audit_membership(LossThreshold(), target, x, y, known, limits={0.01: 0.1})
    told = found.to_dict() | {"digest": str(MODEL), "not_evaluated": ["lira: not asked for"]}
    return told | given


def page(*found: dict[str, Any]) -> Page:
    return Page(write_curves([read_found(one) for one in found], {"by": "keepstone"}))


def svgs(shown: Page) -> list[str]:
    return [str(attributes["aria-label"]) for tag, attributes in shown.tags if tag == "svg"]


# What stands in it


def test_an_extraction_is_told_by_curves_a_table_and_its_sources() -> None:
    other = copies("copycat", seed=9)
    other["curve"][1]["agreement"] = None
    other["curve"][1]["problems"] = [
        {"code": "attack.throttled", "effect": "insufficient", "message": "Not answered."}
    ]
    shown = page(extraction(attacks=[copies(), other], not_evaluated=["noise-pool: not asked"]))
    for text in ("knockoff", "copycat", "AML.T0024.002", "Orekondy", str(MODEL), "0.900"):
        assert text in shown.text
    # The copy's units: 20 queries of 7.
    assert "2.86" in shown.text
    assert "d + 1 = 7" in shown.text
    assert "attack.throttled" in shown.text
    assert "copycat, 60 queries: Not answered." in shown.text
    assert "noise-pool: not asked" in shown.text
    assert "knockoff(rate=1.0)" in shown.text
    agreement, accuracy = svgs(shown)
    assert agreement.startswith("agreement by queries")
    assert "knockoff: 0.500 (0.450 to 0.550) at 20" in agreement
    # Where nothing was measured there is no point.
    assert "copycat: 0.500 (0.450 to 0.550) at 20, 0.900" in agreement
    assert accuracy.startswith("accuracy by queries")


def test_an_accuracy_that_nobody_knows_is_not_drawn() -> None:
    one = copies()
    for point in one["curve"]:
        point["accuracy"] = None
    shown = page(extraction(attacks=[one]))
    assert len(svgs(shown)) == 1
    after = shown.text.split("Accuracy of the copies")[1].split("Copies\n")[0]
    assert "Not evaluated" in after


def test_a_membership_audit_is_told_by_its_rates() -> None:
    found = membership()
    shown = page(found)
    for one in found["tpr_at"]:
        assert f"{one['value']:.3f}" in shown.text
        assert f"{one['low']:.3f} to {one['high']:.3f}" in shown.text
    roc, scores = svgs(shown)
    assert roc.startswith("true-positive rate by false-positive rate")
    assert "at a false-positive rate of 0.01;" in roc
    assert "at a false-positive rate of 0.001" in roc
    assert scores.startswith("share of the rows by score")
    assert "lira: not asked for" in shown.text
    assert found["rows"] in shown.text


def test_an_audit_that_measured_nothing_shows_no_number() -> None:
    constant = halves()
    x = constant.domain.draw(400)
    y = np.zeros(400, np.int64)

    class Same:
        domain, classes, capabilities = constant.domain, 2, constant.capabilities

        def predict(self, rows: Any) -> Any:
            return constant.predict(np.broadcast_to(x[:1], rows.shape))

    audited = audit_membership(LossThreshold(), Same(), x, y, np.arange(400) < 200)
    told = audited.to_dict() | {"digest": str(MODEL), "not_evaluated": []}
    assert (told["roc"], told["histogram"], told["auc"]) == ([], None, None)
    shown = page(told)
    assert not svgs(shown)
    assert "attack.constant_scores" in shown.text
    assert shown.text.count("Nothing was measured.") == 2
    # That the rate lies between 0 and 1 is no measurement of it.
    assert "0.000 to 1.000" not in shown.text


def test_what_an_address_serves_is_of_no_known_model() -> None:
    assert "not known" in page(extraction(digest=None)).text.split("samples")[0]


def test_one_report_carries_several() -> None:
    others = [read_found(extraction()), read_found(membership())]
    shown = Page(write_html(run(), halves().domain, {"target": "net"}, ("a", "b"), others))
    # 3 of the suite, 2 of each other.
    assert len(svgs(shown)) == 7
    assert [tag for tag, _ in shown.tags].count("h1") == 3
    both = page(extraction(), membership())
    assert len(svgs(both)) == 4


def test_every_chart_has_words_in_its_place() -> None:
    for label in svgs(page(extraction(), membership())):
        assert len(label) > 60
        assert re.search(r"\d", label)


# What cannot get in


def test_nothing_gets_in_that_runs_or_calls() -> None:
    problem = {"code": MARKUP, "effect": "insufficient", "message": MARKUP}
    one = copies(MARKUP, attack=MARKUP, paper=MARKUP, atlas=MARKUP)
    one["curve"][0]["problems"] = [problem]
    bad = {"target": MARKUP, "data": MARKUP, "not_evaluated": [MARKUP], "attacks": [one]}
    audited = {"attack": MARKUP, "parameters": MARKUP, "rows": MARKUP, "problems": [problem]}
    documents = [read_found(extraction(**bad)), read_found(membership(**audited))]
    data = write_curves(documents, {MARKUP: MARKUP})
    shown = Page(data)
    assert not {tag for tag, _ in shown.tags} & {"script", "img", "iframe", "link", "form", "base"}
    for _, attributes in shown.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert "href" not in attributes
    assert "default-src 'none'" in data.decode()
    assert "alert(1)" in shown.text


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "keepstone.attack/v1"},
        {"schema": None},
        {"schema": []},
        {"verdict": "fine"},
        {"verdict": "<b>"},
        {"at_most": "0.9"},
        {"at_most": True},
        {"digest": "sha1:00"},
        {"attacks": {}},
        {"attacks": [1]},
        {"attacks": [copies(seed="1")]},
        {"attacks": [copies(curve=[{}])]},
        {"attacks": [copies(asked=-1)]},
        {"attacks": [copies(budget=10**400)]},
        {"not_evaluated": [1]},
        {"target": 5},
    ],
)
def test_an_extraction_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        read_found(extraction(**change))
    assert refused.value.code in ("report.bad_document", "digest.malformed"), refused.value


@pytest.mark.parametrize(
    "change",
    [
        {"roc": [[0.0]]},
        {"roc": [[0, 2]]},
        {"roc": [["0", 1]]},
        {"roc": [[0, 10**400]]},
        {"roc": "0"},
        {"roc": [[0, 1]] * 5000},
        {"histogram": {"edges": [0, 1], "members": [1, 2], "nonmembers": [1]}},
        {"histogram": {"edges": [1, 0], "members": [1], "nonmembers": [1]}},
        {"histogram": {"edges": [0], "members": [], "nonmembers": []}},
        {"histogram": {"edges": [0, 1], "members": [-1], "nonmembers": [1]}},
        {"histogram": {"edges": [0, 1], "members": [0.5], "nonmembers": [1]}},
        {"tpr_at": [{}]},
        {"tpr_at": [{"fpr": 0}]},
        {"limits": [{"fpr": "x"}]},
        {"problems": [{"code": "a", "effect": "b", "message": "c"}]},
        {"problems": None},
        {"seed": "a"},
        {"auc": 7},
    ],
)
def test_an_audit_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        read_found(membership(**change))
    assert refused.value.code == "report.bad_document"


def test_numbers_that_are_none_are_refused_in_a_file() -> None:
    for text in ("[]", "7", "null", '{"schema": "keepstone.extraction/v1"}', "{", "[" * 5000):
        with pytest.raises(InputError):
            read_document(text.encode())
    data = json.dumps(extraction(at_most=0.5)).replace("0.5", "NaN")
    with pytest.raises(InputError):
        read_document(data.encode())
    assert isinstance(read_document(json.dumps(extraction()).encode()), Extraction)
    assert isinstance(read_document(json.dumps(membership()).encode()), Membership)


def test_a_document_of_another_model_is_refused() -> None:
    found = read_found(extraction())
    assert same_model(found, MODEL) is found
    for document, model in (
        (found, Digest.of(b"another")),
        (found, None),
        (read_found(extraction(digest=None)), MODEL),
        (read_found(extraction(digest=None)), None),
        (read_found(membership(digest=str(Digest.of(b"another")))), MODEL),
    ):
        with pytest.raises(InputError) as refused:
            same_model(document, model)
        assert refused.value.code == "report.other_model"


# The charts


def test_an_axis_of_logarithms_where_budgets_span_much() -> None:
    def places(*queries: float) -> list[float]:
        points = [(at, 0.5, 0.4, 0.6) for at in queries]
        drawn = band_chart([Band("a", points)], Told("x", "y"), unit=10)
        return [float(one) for one in re.findall(r'<circle cx="([0-9.]+)"', drawn)]

    low, middle, high = places(10, 100, 1000)
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    low, middle, high = places(100, 200, 300)
    assert middle - low == pytest.approx(high - middle, abs=0.1)
    assert ">10</text>" in band_chart([Band("a", [(100, 0.5, 0.4, 0.6)])], Told("x", "y"), unit=10)


def test_the_interval_is_drawn_where_it_is() -> None:
    drawn = band_chart([Band("a", [(10, 0.5, 0.25, 0.75)])], Told("x", "y"))
    up = Axis.up()
    assert f'y1="{up.place(0.25):.1f}" y2="{up.place(0.75):.1f}"' in drawn


def test_guessing_is_the_diagonal_of_the_roc() -> None:
    drawn = roc_chart([(0.0, 0.0), (1.0, 1.0)], [(0.01, 0.05, 0.02, 0.2)], 1000, 1000)
    across, up = Axis.across(0.001, 1.0, log=True), Axis.up(0.001, 1.0, log=True)
    assert f"{across.place(1):.1f} {up.place(1):.1f}" in drawn
    assert f"M{across.place(0.001):.1f} {up.place(0.001):.1f}" in drawn
    assert f'cx="{across.place(0.01):.1f}" cy="{up.place(0.05):.1f}"' in drawn
    assert f'y1="{up.place(0.02):.1f}" y2="{up.place(0.2):.1f}"' in drawn


def test_charts_of_little_are_charts() -> None:
    for drawn in (
        band_chart([], Told("x", "y"), unit=3),
        band_chart([Band("<&", [])], Told("x", "y")),
        roc_chart([], [], 0, 0),
        roc_chart([(0.0, 0.0)], [(0.001, 0.0, 0.0, 1.0)], 5, 5),
        histogram([0.0, 1.0], [0], [0]),
    ):
        assert drawn.startswith("<svg")
        assert not re.search(r"nan|inf|<&", drawn)


def test_the_corners_of_a_curve_keep_its_low_rates() -> None:
    rng = np.random.default_rng(0)
    roc = roc_of(rng.normal(0.5, 1, 20_000), rng.normal(0, 1, 20_000))
    told = np.array(roc.corners())
    assert len(told) <= 200
    assert (np.diff(told, axis=0) >= 0).all()
    fpr, tpr = roc.fpr, roc.tpr
    for false, true in told:
        assert true == pytest.approx(tpr[fpr <= false + 1e-9].max(), abs=1e-8)
    # Where the headline is read there are many.
    assert (told[:, 0] < 0.01).sum() > 50


def test_a_histogram_holds_every_row() -> None:
    members = np.array([np.inf, 1e308, -np.inf, 0.5, 0.25])
    told: Any = roc_of(members, np.array([0.1, 0.9, -1e308])).histogram()
    assert (sum(told["members"]), sum(told["nonmembers"])) == (5, 3)
    assert np.isfinite(told["edges"]).all()
    told = roc_of(np.array([np.inf]), np.array([-np.inf])).histogram()
    assert (told["members"][-1], told["nonmembers"][0]) == (1, 1)


@pytest.mark.slow
def test_a_browser_shows_it(tmp_path: Path, need: Callable[[str, str], str]) -> None:
    """Chromium, headless, on a light and on a dark page: charts are there, and are not blank."""
    chromium = need("chromium", "look at the report")
    path = tmp_path / "report.html"
    found = [read_found(extraction()), read_found(membership())]
    path.write_bytes(write_curves(found, {"by": MARKUP}))
    browser = Browser(chromium, path)
    assert browser.dom().count("<svg") == 4
    light, dark = (
        browser.picture(f"--blink-settings=preferredColorScheme={scheme}") for scheme in (1, 0)
    )
    assert min(len(light), len(dark)) > 20_000
    assert light != dark
