"""The report: what stands in it, what cannot get into it, and that a browser shows it."""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from keepstone.lab.domain import Domain
from keepstone.lab.report.charts import Line, interval_chart, line_chart
from keepstone.lab.report.html import write_html
from keepstone.lab.report.pictures import difference, picture, picture_shape
from keepstone.lab.suites.plan import Step, Suite
from keepstone.lab.suites.result import SuiteResult
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets.port import Capability
from tests.lab.browser import Browser
from tests.lab.fakes import Linear, Towards, halves
from tests.lab.test_lab_suites import question, run

IMAGE = Domain.of((8, 8), 0.0, 16.0, "float64")


def of_pictures() -> SuiteResult:
    rng = np.random.default_rng(2)
    weights = np.zeros((64, 2))
    weights[:32, 0], weights[32:, 1] = 1, 1
    target = Linear(weights, np.zeros(2), IMAGE)
    x = rng.uniform(4, 12, (120, 64))
    y = target.predict(x).labels
    goals = (tuple([16.0] * 32 + [0.0] * 32), tuple([0.0] * 32 + [16.0] * 32))
    steps = tuple(Step(Towards(goal), 40, 10) for goal in goals)
    suite = Suite("both", 120, lambda able: steps)
    return run_suite(target, x, y, suite, question(0.5, 2.0), names=["<b>up", "down"])


class Page(HTMLParser):
    """Every tag, and the text between them."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(data.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(outcome: SuiteResult, domain: Domain, **about: str) -> Page:
    return Page(write_html(outcome, domain, about, ("age", "<script>alert(1)</script>")))


def test_it_tells_the_verdict_the_numbers_and_their_sources() -> None:
    outcome = run(question=question(0.05, 0.1))
    shown = page(outcome, halves().domain, target="a model", samples="sha256:00")
    assert outcome.verdict.value in shown.text
    for one in outcome.robust:
        for number in (one.robust.value, one.robust.low, one.robust.high):
            assert f"{number:.3f}" in shown.text
    for ran in outcome.attacks:
        assert ran.name in shown.text
        assert ran.atlas in shown.text
    assert "a model" in shown.text
    assert sum(tag == "svg" for tag, _ in shown.tags) == 3


def test_what_was_not_looked_at_is_told() -> None:
    able = frozenset({Capability.LABEL, Capability.SCORES})
    shown = page(run(halves(capabilities=able)), halves().domain)
    masked = shown.text.split("Masked gradients")[1].split("Worst cases")[0]
    assert "Not evaluated" in masked


def test_nothing_gets_in_that_runs_or_calls() -> None:
    outcome = of_pictures()
    for data in (
        write_html(outcome, IMAGE, {"target": "<img src=https://example.org/x onerror=a()>"}),
        write_html(run(), halves().domain, {"<i>": '"><script>'}, ("<script>", "b")),
    ):
        shown = Page(data)
        tags = {tag for tag, _ in shown.tags}
        assert not tags & {"script", "iframe", "object", "link", "form", "b", "i", "base"}
        for _, attributes in shown.tags:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "xlink:href"):
                assert (attributes.get(name) or "data:").startswith("data:")
        assert "default-src 'none'" in data.decode()


def test_worst_cases_are_the_nearest_and_shown_as_pictures() -> None:
    outcome = of_pictures()
    shown = page(outcome, IMAGE)
    pictures = [dict(a)["src"] for tag, a in shown.tags if tag == "img"]
    assert len(pictures) == 3 * 12
    first = np.argmin(outcome.worst.distance)
    assert pictures[0] == picture(outcome.worst.x[first], (8, 8), IMAGE.low, IMAGE.high)
    assert "<b>up served as down" in shown.text or "down served as <b>up" in shown.text


def test_worst_cases_of_tables_name_what_changed() -> None:
    shown = page(run(), halves().domain)
    cases = shown.text.split("Worst cases")[1].split("Not evaluated")[0]
    assert "age" in cases
    assert "<script>alert(1)</script>" in cases


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64,), (8, 8, 1)),
        ((65,), None),
        ((16,), None),
        ((8, 9), (8, 9, 1)),
        ((3, 32, 30), (32, 30, 3)),
        ((32, 30, 3), (32, 30, 3)),
        ((1, 28, 28), (28, 28, 1)),
        ((5, 28, 28), None),
        ((3, 2048, 2048), None),
        ((2, 3, 4, 5), None),
    ],
)
def test_which_inputs_are_pictures(shape: tuple[int, ...], expected: object) -> None:
    assert picture_shape(shape) == expected


def decoded(uri: str) -> tuple[int, int, np.ndarray]:
    data = b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    parts, at = {}, 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + length :][:4], "big")
        parts[kind] = body
        at += 12 + length
    width, height = (int.from_bytes(parts[b"IHDR"][k : k + 4], "big") for k in (0, 4))
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (lines[:, 0] == 0).all()
    return width, height, lines[:, 1:]


def test_a_picture_holds_the_pixels() -> None:
    rows = np.arange(12.0)
    uri = picture(rows, (3, 4), np.zeros(12), np.full(12, 11.0))
    assert uri is None  # Three lines are too few to see anything.
    rows = np.arange(20.0)
    width, height, pixels = decoded(str(picture(rows, (4, 5), np.zeros(20), np.full(20, 19.0))))
    assert (width, height) == (5, 4)
    assert pixels.ravel().tolist() == np.rint(rows / 19 * 255).astype(int).tolist()
    colour = np.zeros((3, 4, 5))
    colour[1] = 1
    _, _, pixels = decoded(str(picture(colour.ravel(), (3, 4, 5), np.zeros(60), np.ones(60))))
    assert pixels.reshape(4, 5, 3)[2, 3].tolist() == [0, 255, 0]


def test_a_difference_is_grey_where_nothing_changed() -> None:
    row = np.ones(16)
    other = row.copy()
    other[3] = 2
    _, _, pixels = decoded(str(difference(row, other, (4, 4))))
    assert pixels.ravel()[3] == 255
    assert set(np.delete(pixels.ravel(), 3).tolist()) == {128}


def test_a_chart_of_nothing_is_a_chart() -> None:
    assert line_chart([], "x", "y").startswith("<svg")
    assert interval_chart([], 0.5, "x", "y").startswith("<svg")
    chart = line_chart([Line('<"&', [(1, 0.1), (1000, 0.9)])], "x", "y", log=True)
    assert "&lt;&quot;&amp;" in chart
    assert not re.search(r"nan|inf", chart)


@pytest.mark.slow
def test_a_browser_shows_it(tmp_path: Path, need: Callable[[str, str], str]) -> None:
    """Chromium, headless: the verdict is on the page, and the picture of it is not blank."""
    chromium = need("chromium", "look at the report")
    path = tmp_path / "report.html"
    outcome = of_pictures()
    path.write_bytes(write_html(outcome, IMAGE, {"target": "a model"}))
    browser = Browser(chromium, path)
    dom = browser.dom()
    assert f'id="verdict">{outcome.verdict.value}</span>' in dom
    assert dom.count("<svg") == 3
    assert len(browser.picture()) > 20_000
