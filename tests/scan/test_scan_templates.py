"""Chat templates: what reaches for Python's internals is flagged, however it is spelled."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.scan.templates import MAX_LENGTH, template_findings

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum['__globals__']['os'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('__cla' ~ 'ss__') }}",
    "{{ x|attr(y) }}",
    "{{ x|attr(name=y) }}",
    "{% set a='__cla' %}{% set b='ss__' %}{{ ''[a ~ b] }}",
    "{{ ''[['_', '_', 'class', '_', '_']|join] }}",
    "{{ ''['_'.join(['', '', 'class', '', ''])] }}",
    r"{{ ''['\x5f\x5fclass\x5f\x5f'] }}",
    "{{ ''['__cl' 'ass__'] }}",
    "{% macro f(k) %}{{ ''[k] }}{% endmacro %}{{ f('__cla' ~ 'ss__') }}",
    "{{ f('__cla' ~ 'ss__') }}{% macro f(k) %}{{ ''[k] }}{% endmacro %}",
    "{% macro f(k='__cla' ~ 'ss__') %}{{ ''[k] }}{% endmacro %}{{ f() }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__}'|format(1) }}",
    "{{ ''['%c%cclass%c%c'|format(95, 95, 95, 95)] }}",
    "{{ ''['%c%cclass__' % (95, 95)] }}",
    "{{ ''[dict(__cla=1, ss__=2)|join] }}",
    "{{ ()|map(attribute='__class__')|list }}",
    "{{ [x]|map('attr', '__class__')|list }}",
    "{{ x|sort(attribute='a.__class__') }}",
    "{% set ns = namespace(k='__cla') %}{% set ns.k = ns.k ~ 'ss__' %}{{ ''[ns.k] }}",
    "{% set k %}__cla{{ 'ss__' }}{% endset %}{{ ''[k] }}",
    "{% with k = '__cla' ~ 'ss__' %}{{ ''[k] }}{% endwith %}",
    "{% for k in ['__cla' ~ 'ss__'] %}{{ ''[k] }}{% endfor %}",
    "{% set d = {'k': '__cla'} %}{{ ''[d.k ~ 'ss__'] }}",
    "{{ ''['__ssalc__'[::-1]] }}",
    "{{ ''['__CLASS__'.lower()] }}",
    "{{ ''['  __CLASS__'|lower|trim] }}",
    "{{ ''[('_' * 2) ~ 'class' ~ ('_' * 2)] }}",
    "{{ ''['__cla' + ('ss__' if x else 'y__')] }}",
    "{{ self._TemplateReference__context }}",
    "{{ x.gi_frame.f_globals }}",
    "{{ __import__('os') }}",
    "{% filter attr('__class__') %}x{% endfilter %}",
    "{% generation %}{{ x.__class__ }}{% endgeneration %}",
    "".join(f"{{% set k = 'decoy{i}' %}}" for i in range(99))
    + "{% set k = '__cla' %}{{ ''[k ~ 'ss__'] }}",
    "{% set k = '_' %}{% set k = k ~ '_init_' %}{{ ''[k ~ '_'] }}",
    "{{ x.__class__ ",
]
HONEST = [
    "".join(f"{{% set k = 'decoy{i}' %}}" for i in range(99)) + "{{ ''[k ~ 's'] }}",
    "",
    "Just text about __init__ and `if __name__ == '__main__'`.",
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' +"
    " message['content'] | trim + eos_token }}{% endfor %}",
    "{% if not loop.last and messages[loop.index0 - 1].role == 'user' %}{% break %}{% endif %}",
    "{% generation %}{{ m.content }}{% endgeneration %}",
    "{{ message['content_' ~ lang] }}{{ names[key|lower] }}{{ table[key + '_name'] }}",
    "{% set ns = namespace(i=0) %}{% set ns.i = ns.i + 1 %}{{ messages[ns.i].role }}"
    "{% set j = 0 %}{% set j = j + 1 %}{{ messages[j] }}{{ messages[ns.i + 1] }}",
    "{% set ns = namespace(last=-1, text='') %}{% set ns.last = loop.index0 %}"
    "{% set ns.text = ns.text ~ m.content %}{{ messages[ns.last].role }}",
    "{%- macro args(value, depth=0) -%}{%- for key in value if key not in ('a', 'b') -%}"
    "{{ key }}{{ value[key]|tojson }}{%- endfor -%}{%- endmacro -%}{{ args(tool.parameters) }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|last }}",
    "{{ raise_exception('Roles must alternate: ' ~ role) }}{{ strftime_now('%d %b %Y') }}",
    "{{ '%s has %d'|format(name, count) }}{{ content.split('</think>')[-1].lstrip('\\n') }}",
    "{% set _args = call.arguments or {} %}{% for k, v in _args.items() %}{{ k }}{% endfor %}",
    "{% set _ = tools.append(tool) %}{{ [1, 2]|sum }}{{ x|sort(attribute='name') }}",
]


def rules(text: str) -> set[str]:
    return {problem.rule for problem in template_findings(text)}


@pytest.mark.parametrize("text", ESCAPES)
def test_every_spelling_of_an_internal_name_is_an_escape(text: str) -> None:
    assert "template.escape" in rules(text)


@pytest.mark.parametrize("text", HONEST)
def test_ordinary_templates_pass(text: str) -> None:
    assert template_findings(text) == ()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{% include 'x' %}", "template.loads"),
        ("{% import 'x' as y %}", "template.loads"),
        ("{% from 'x' import y %}", "template.loads"),
        ("{% extends 'x' %}", "template.loads"),
        ("{% debug %}", "template.loads"),
        ("{{ range(1000000000) }}", "template.exhausts"),
        ("{{ 'a' * 1000000000 }}", "template.exhausts"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "template.exhausts",
        ),
        ("{{ 10 ** 9 ** 9 }}", "template.exhausts"),
        ("{{ x|no_such_filter }}", "template.unknown"),
        ("{{ x is no_such_test }}", "template.unknown"),
        ("{{ unclosed", "template.unknown"),
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "template.unknown"),
        ("x" * (MAX_LENGTH + 1), "template.unknown"),
    ],
)
def test_what_else_is_wrong_is_named(text: str, rule: str) -> None:
    assert rules(text) == {rule}


def test_folding_names_is_bounded() -> None:
    """Each name is the last one twice: without a bound there would be 2 ** 40 texts."""
    text = "{% set v0 = 'a' %}" + "".join(
        f"{{% set v{i} = v{i - 1} ~ v{i - 1} %}}" for i in range(1, 40)
    )
    begin = time.monotonic()
    assert template_findings(text + "{{ ''[v39] }}" * 50)
    assert time.monotonic() - begin < 5


_PIECES = ["{{", "}}", "{%", "%}", " ", "'", '"', "[", "]", "(", ")", "|", "~", ".", "set", "for"]
_PIECES += [
    "x",
    "in",
    "=",
    "attr",
    "__class__",
    "if",
    "endif",
    "endfor",
    "1",
    "{#",
    "#}",
    "\\",
    "-",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=40))
def test_any_text_gets_an_answer(pieces: list[str]) -> None:
    template_findings("".join(pieces))


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(ESCAPES[:-1]))
def test_text_around_an_escape_hides_nothing(before: str, after: str, escape: str) -> None:
    assert template_findings(before + escape + after)
