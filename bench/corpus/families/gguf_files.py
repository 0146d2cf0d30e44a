"""GGUF: counts and places that lie, and a chat template that is a program.

Source: ggml's docs/gguf.md; CVE-2024-34359, CVE-2024-21802, CVE-2024-23496, CVE-2025-53630.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bench.corpus.case import Case, fail, good, zipped
from bench.corpus.opcodes import pickled, shell

_LOADER, _NONE = "gguf by hand", "none"
_U32, _F32, _STRING, _ARRAY, _U64 = 4, 6, 8, 9, 10

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = (
    "{% if messages[0]['role'] == 'system' %}{% set offset = 1 %}{% else %}{% set offset = 0 %}"
    "{% endif %}{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') !="
    " (loop.index0 % 2 == offset) %}{{ '' }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}{% elif message['role'] =="
    " 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% set ns = namespace(last='') %}{% for message in messages %}"
    "{% set ns.last = message['role'] %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
)
MACRO = (
    "{%- macro show(text) -%}{{ text | upper }}{%- endmacro -%}{% for m in messages %}"
    "{%- if m.content is string -%}{{ show(m.content) }}{%- else -%}{{ m.content | tojson }}"
    "{%- endif -%}{% endfor %}"
)
ORDINARY = {"chatml": CHATML, "llama": LLAMA, "gemma": GEMMA, "macro": MACRO}
_RUN = "system('true')"
HOSTILE = {
    "cycler": "{{ cycler.__init__.__globals__.os." + _RUN + " }}",
    "joiner": "{{ joiner.__init__.__globals__.os." + _RUN + " }}",
    "namespace": "{{ namespace.__init__.__globals__.os." + _RUN + " }}",
    "lipsum": "{{ lipsum.__globals__['os']." + _RUN + " }}",
    "self": "{{ self.__init__.__globals__.__builtins__.__import__('os')." + _RUN + " }}",
    "subclasses": "{% for c in ().__class__.__base__.__subclasses__() %}{% if c.__name__ =="
    " 'catch_warnings' %}{{ c()._module.__builtins__['__import__']('os')." + _RUN + " }}"
    "{% endif %}{% endfor %}",
    "attr_filter": "{{ (cycler|attr('__init__')|attr('__globals__'))['os']." + _RUN + " }}",
    "attr_joined": "{{ (cycler|attr('__in'~'it__')|attr('__glo'~'bals__'))['os']." + _RUN + " }}",
    "hex_escape": "{{ lipsum['\\x5f\\x5fglobals\\x5f\\x5f']['os']." + _RUN + " }}",
    "subscript": "{{ lipsum['__globals__']['os']['system']('true') }}",
    "request_format": "{{ ('%c%cglobals%c%c'|format(95,95,95,95)) and lipsum|attr('%c%cglobals%c%c'"
    "|format(95,95,95,95)) }}{{ lipsum.__globals__.os." + _RUN + " }}",
    "reversed": "{{ lipsum|attr('__slabolg__'|reverse) and lipsum|attr(('__slabolg__'|reverse"
    "|join)) }}{{ lipsum.__globals__.os." + _RUN + " }}",
    "concatenated": "{% set u = '_' ~ '_' %}{{ (lipsum|attr(u ~ 'globals' ~ u))['os']."
    + _RUN
    + " }}",
    "in_statement": "{% set x = cycler.__init__.__globals__.os." + _RUN + " %}",
    "in_condition": "{% if cycler.__init__.__globals__.os." + _RUN + " %}{% endif %}",
    "in_loop": "{% for x in [cycler.__init__.__globals__.os." + _RUN + "] %}{% endfor %}",
    "in_macro": "{% macro m() %}{{ cycler.__init__.__globals__.os." + _RUN + " }}{% endmacro %}"
    "{{ m() }}",
    "with_ordinary": CHATML + "{{ cycler.__init__.__globals__.os." + _RUN + " }}",
    "after_comment": "{# a template #}" + CHATML + "{{ lipsum.__globals__.os." + _RUN + " }}",
    "map_attribute": "{{ [lipsum]|map(attribute='__globals__.os.system')|list|first|string }}"
    "{{ lipsum.__globals__.os." + _RUN + " }}",
}


def _text(value: str | bytes) -> bytes:
    raw = value.encode("utf-8") if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def string(key: str, value: str) -> bytes:
    return _pair(key, _STRING, _text(value))


_BASE = [
    string("general.architecture", "llama"),
    string("general.name", "corpus"),
    _pair("llama.block_count", _U32, struct.pack("<I", 1)),
    _pair("llama.context_length", _U32, struct.pack("<I", 64)),
]


def _tensor(name: str, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    return (
        _text(name)
        + struct.pack("<I", len(dims))
        + b"".join(struct.pack("<Q", size) for size in dims)
        + struct.pack("<IQ", kind, offset)
    )


def built(
    pairs: list[bytes],
    tensors: tuple[bytes, ...] = (_tensor("w", (4, 2), 0, 0),),
    content: bytes = bytes(32),
    version: int = 3,
    tensor_count: int | None = None,
    pair_count: int | None = None,
) -> bytes:
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if pair_count is None else pair_count,
    )
    body = head + b"".join(pairs) + b"".join(tensors)
    return body + bytes(-len(body) % 32) + content


def _template(text: str, key: str = "tokenizer.chat_template") -> bytes:
    return built([*_BASE, string(key, text)])


def _honest(seed: int) -> Iterator[Case]:
    yield good("plain.gguf", built(_BASE), _LOADER)
    for slug, text in ORDINARY.items():
        yield good(f"template_{slug}.gguf", _template(text), _LOADER)
    tokens = struct.pack("<IQ", _STRING, 3) + _text("<s>") + _text("</s>") + _text("a")
    yield good(
        "tokens.gguf", built([*_BASE, _pair("tokenizer.ggml.tokens", _ARRAY, tokens)]), _LOADER
    )
    numbers = struct.pack("<IQ3f", _F32, 3, 0.0, 1.0, 2.0)
    yield good(
        "scores.gguf", built([*_BASE, _pair("tokenizer.ggml.scores", _ARRAY, numbers)]), _LOADER
    )
    two = (_tensor("a", (8,), 0, 0), _tensor("b", (8,), 0, 32))
    yield good("two_tensors.gguf", built(_BASE, two, bytes(64)), _LOADER)
    aligned = [*_BASE, _pair("general.alignment", _U32, struct.pack("<I", 32))]
    yield good("alignment.gguf", built(aligned), _LOADER)
    yield good("vocabulary_only.gguf", built(_BASE, (), b""), _LOADER)
    yield good("version_2.gguf", built(_BASE, version=2), _LOADER)


def _templates(seed: int) -> Iterator[Case]:
    for slug, text in HOSTILE.items():
        yield fail(
            f"template_{slug}.gguf",
            _template(text),
            f"Reaches for os when the chat template is rendered: {slug}.",
            _LOADER,
        )
    named = _template(HOSTILE["cycler"], "tokenizer.chat_template.tool_use")
    yield fail("template_named.gguf", named, "Reaches for os in a second template.", _LOADER)
    twice = built(
        [
            *_BASE,
            string("tokenizer.chat_template", CHATML),
            string("tokenizer.chat_template", HOSTILE["cycler"]),
        ]
    )
    yield fail(
        "template_twice.gguf", twice, "Has two templates; readers differ in which counts.", _LOADER
    )
    yield fail(
        "template_named_otherwise.bin",
        _template(HOSTILE["cycler"]),
        "Reaches for os; the name says nothing.",
        _LOADER,
    )
    yield fail(
        "template_zipped.zip",
        zipped([("m.gguf", _template(HOSTILE["lipsum"]))]),
        "Reaches for os, in an archive.",
        _NONE,
    )
    bomb = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
    yield fail("template_bomb.gguf", _template(bomb), "Renders ten billion letters.", _LOADER)
    power = "{{ 9 ** 99999999 }}"
    yield fail("template_power.gguf", _template(power), "Computes a number without end.", _LOADER)


def _bad(seed: int) -> Iterator[Case]:
    big = (1 << 63) - 1
    array = struct.pack("<IQ", _U32, 1 << 60)
    deep = b"".join(struct.pack("<IQ", _ARRAY, 1) for _ in range(5000))
    cases: dict[str, tuple[bytes, str]] = {
        "tensor_count": (built(_BASE, tensor_count=big), "Claims more tensors than there are."),
        "pair_count": (built(_BASE, pair_count=big), "Claims more pairs than there are."),
        "string_length": (
            built([*_BASE, _text("k") + struct.pack("<IQ", _STRING, 1 << 62)]),
            "A text claims to be longer than the file.",
        ),
        "string_wraps": (
            built([*_BASE, _text("k") + struct.pack("<IQ", _STRING, (1 << 64) - 1)]),
            "A text's length overflows by one.",
        ),
        "key_length": (
            built([*_BASE, struct.pack("<Q", 1 << 40)]),
            "A key claims to be longer than the file.",
        ),
        "array_length": (
            built([*_BASE, _pair("k", _ARRAY, array)]),
            "An array claims more than there is.",
        ),
        "array_nested": (
            built([*_BASE, _pair("k", _ARRAY, deep)]),
            "Arrays are nested five thousand deep.",
        ),
        "dimensions": (
            built(_BASE, (_text("w") + struct.pack("<I", 1 << 20),)),
            "A tensor has a million dimensions.",
        ),
        "dimension_overflow": (
            built(_BASE, (_tensor("w", (1 << 33, 1 << 33), 0, 0),)),
            "A tensor's size overflows.",
        ),
        "dimension_wraps": (
            built(_BASE, (_tensor("w", (1 << 62, 4, 2), 0, 0),)),
            "A tensor's size wraps around to nothing.",
        ),
        "tensor_outside": (
            built(_BASE, (_tensor("w", (1 << 20,), 0, 0),)),
            "A tensor leads out of the file.",
        ),
        "offset_outside": (
            built(_BASE, (_tensor("w", (8,), 0, 1 << 40),)),
            "A tensor begins outside of the file.",
        ),
        "offset_unaligned": (built(_BASE, (_tensor("w", (4,), 0, 3),)), "A tensor is not aligned."),
        "overlap": (
            built(_BASE, (_tensor("a", (8,), 0, 0), _tensor("b", (8,), 0, 0))),
            "Two tensors share bytes.",
        ),
        "tensor_twice": (
            built(_BASE, (_tensor("a", (8,), 0, 0), _tensor("a", (8,), 0, 32)), bytes(64)),
            "Two tensors have one name.",
        ),
        "alignment_zero": (
            built([*_BASE, _pair("general.alignment", _U32, bytes(4))]),
            "The alignment is zero.",
        ),
        "alignment_odd": (
            built([*_BASE, _pair("general.alignment", _U32, struct.pack("<I", 7))]),
            "The alignment is no power of two.",
        ),
        "key_twice": (built([*_BASE, string("general.name", "another")]), "A key comes twice."),
        "trailing_pickle": (built(_BASE) + pickled(shell()), "A pickle follows the tensors."),
    }
    for slug, (data, reason) in cases.items():
        yield fail(f"{slug}.gguf", data, reason, _NONE)


PARTS = (_honest, _templates, _bad)
