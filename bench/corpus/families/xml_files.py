"""PMML and other XML: entities that grow, and entities that open files or addresses.

Source: XML 1.0, 4.2; PMML 4.4; CWE-611, CWE-776.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.corpus.case import CANARY, Case, fail, good

_LOADER, _NONE = "xml.sax", "none"
_BODY = """<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4">
 <Header description="{text}"><Application name="corpus" version="1"/></Header>
 <DataDictionary numberOfFields="2">
  <DataField name="x" optype="continuous" dataType="double"/>
  <DataField name="y" optype="continuous" dataType="double"/>
 </DataDictionary>
 {model}
</PMML>
"""
_REGRESSION = """<RegressionModel functionName="regression" targetFieldName="y">
  <MiningSchema><MiningField name="x"/><MiningField name="y" usageType="target"/></MiningSchema>
  <RegressionTable intercept="1.5"><NumericPredictor name="x" coefficient="2"/></RegressionTable>
 </RegressionModel>"""
_TREE = """<TreeModel functionName="regression">
  <MiningSchema><MiningField name="x"/></MiningSchema>
  <Node score="1"><True/><Node score="2"><SimplePredicate field="x" operator="lessThan" value="3"/>
  </Node></Node>
 </TreeModel>"""
_OUTSIDE = f"../{CANARY}"
_START = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _pmml(model: str = _REGRESSION, head: str = "", text: str = "a model") -> str:
    return _START + head + _BODY.format(text=text, model=model)


def _honest(seed: int) -> Iterator[Case]:
    yield good("regression.pmml", _pmml().encode(), _LOADER)
    yield good("tree.pmml", _pmml(_TREE).encode(), _LOADER)
    yield good("comment.pmml", _pmml(head="<!-- made by hand -->\n").encode(), _LOADER)
    yield good("escaped.pmml", _pmml(text="a &lt; b &amp; c &#65;").encode(), _LOADER)
    yield good("cdata.xml", (_START + "<net><![CDATA[a < b]]></net>").encode(), _LOADER)
    yield good("utf16.pmml", _pmml().replace("UTF-8", "UTF-16").encode("utf-16"), _LOADER)
    openvino = _START + '<net name="m" version="11"><layers><layer id="0" name="x" type="Parameter"'
    openvino += ' version="opset1"/></layers><edges/></net>'
    yield good("openvino.xml", openvino.encode(), _LOADER)


def _bad(seed: int) -> Iterator[Case]:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    doctypes = {
        "laughs": (
            f'<!DOCTYPE PMML [<!ENTITY l0 "ha">{laughs}]>\n',
            "&l9;",
            "Entities grow to a thousand million letters",
        ),
        "quadratic": (
            f'<!DOCTYPE PMML [<!ENTITY a "{"a" * 50_000}">]>\n',
            "&a;" * 20_000,
            "One long entity comes twenty thousand times",
        ),
        "external_file": (
            f'<!DOCTYPE PMML [<!ENTITY x SYSTEM "{_OUTSIDE}">]>\n',
            "",
            "An entity opens a file",
        ),
        "external_passwd": (
            '<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n',
            "",
            "An entity opens a file",
        ),
        "external_public": (
            '<!DOCTYPE PMML [<!ENTITY x PUBLIC "a" "http://127.0.0.1:9/">]>\n',
            "",
            "An entity opens an address",
        ),
        "external_dtd": (
            f'<!DOCTYPE PMML SYSTEM "{_OUTSIDE}">\n',
            "",
            "The document type lies in another file",
        ),
        "parameter": (
            f'<!DOCTYPE PMML [<!ENTITY % p SYSTEM "{_OUTSIDE}">%p;]>\n',
            "",
            "A parameter entity opens a file",
        ),
        "nested_parameter": (
            '<!DOCTYPE PMML [<!ENTITY % a "&#x3C;!ENTITY b SYSTEM'
            " 'file:///etc/passwd'&#x3E;\">%a;]>\n",
            "",
            "An entity makes an entity",
        ),
        "recursive": (
            '<!DOCTYPE PMML [<!ENTITY a "&b;"><!ENTITY b "&a;">]>\n',
            "&a;",
            "Two entities name one another",
        ),
    }
    for slug, (head, use, reason) in doctypes.items():
        inside = (
            "<Extension>&x;</Extension>" if "ENTITY x" in head else f"<Extension>{use}</Extension>"
        )
        loader = (
            _NONE
            if slug in ("laughs", "quadratic", "recursive", "nested_parameter", "external_passwd")
            else _LOADER
        )
        text = _pmml(_REGRESSION + inside, head)
        yield fail(f"{slug}.pmml", text.encode(), f"{reason}.", loader)
    laughing = _pmml(_REGRESSION + "<Extension>&l9;</Extension>", doctypes["laughs"][0])
    utf16 = laughing.replace("UTF-8", "UTF-16").encode("utf-16")
    yield fail("laughs_utf16.pmml", utf16, "Entities grow, in UTF-16.", _NONE)
    yield fail("laughs_named.txt", laughing.encode(), "Entities grow; the name says text.", _NONE)
    yield fail(
        "external_utf7.pmml",
        _pmml(head=f'<!DOCTYPE PMML [<!ENTITY x SYSTEM "{_OUTSIDE}">]>\n')
        .replace("UTF-8", "UTF-7")
        .encode("utf-7"),
        "An entity opens a file, in UTF-7.",
        _NONE,
    )
    yield fail(
        "no_declaration.pmml",
        (f'<!DOCTYPE x [<!ENTITY x SYSTEM "{_OUTSIDE}">]><x>&x;</x>').encode(),
        "An entity opens a file; there is no declaration.",
        _LOADER,
    )
    include = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/passwd"'
    yield fail(
        "xinclude.pmml",
        _pmml(_REGRESSION + include + ' parse="text"/>').encode(),
        "Includes a file.",
        _NONE,
    )
    sheet = '<?xml-stylesheet type="text/xsl" href="http://127.0.0.1:9/x.xsl"?>\n'
    yield fail(
        "stylesheet.pmml", _pmml(head=sheet).encode(), "Names a style sheet elsewhere.", _NONE
    )
    java = '<java version="1.8" class="java.beans.XMLDecoder"><object class="java.lang.Runtime"'
    yield fail(
        "java_beans.xml",
        (
            _START + java + ' method="getRuntime"><void method="exec"><string>'
            "true</string></void></object></java>"
        ).encode(),
        "Java's XMLDecoder runs it.",
        _NONE,
    )
    deep = "<Extension>" * 40_000 + "</Extension>" * 40_000
    yield fail("deep.pmml", _pmml(deep).encode(), "Nested forty thousand deep.", _NONE)


PARTS = (_honest, _bad)
