"""Values given to secrets' names, in whatever language: `=`, `:`, `=>`, an XML element, a flag.

The names are searched, and a bounded window is read at each: no line is too long, and no text
takes more than a fixed number of steps for each of its characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.names import SEEDS, NameOf, name_of
from keepstone.scan.secrets.values import LONGEST, is_secret

RULE = "secret.assigned"
_BACK, _WINDOW = 64, 160
_NAME = re.compile(r"[\w.-]{1,80}", re.ASCII)
# What may stand between a name and its value, with the quote that opens the value.
_GIVES = re.compile(
    r"(?:\\{0,3}[\"'`])?\]?"
    r"(?:[ \t]{0,20}:[ \t]{0,4}(?:(?:Optional\[)?(?:str|String|string|bytes|Final(?:\[str\])?|&str"
    r"|&'static str|const char ?\*)\]?)(?:[ \t]{0,3}\|[ \t]{0,3}None)?(?=[ \t]{0,20}=))?"
    r"(?:\[\]|\*)?[ \t]{0,40}(?:=>|:=|={1,3}|!=|:|,(?=[ \t]{0,4}[\"'])|\|\||\?=|\+=|\()"
    r"[ \t]{0,40}(?:\r?\n[ \t]{1,40})?(?:[bBrRuUfF@]{1,2}(?=[\"'])|[!][A-Za-z]{1,10}[ \t])?"
    r"(?:[(\[]{1,2}(?:\r?\n[ \t]{0,40})?)?(\\{0,3}(?:\"\"\"|'''|[\"'`]))?"
)
_ELEMENT = re.compile(r"(?:[ \t][^<>\n]{0,100})?>[ \t]{0,20}([^<>\s][^<>\n]{0,300}?)[ \t]{0,20}</")
_ATTRIBUTE = re.compile(
    r"[\"'][ \t\r\n]{1,20}value[ \t]{0,4}=[ \t]{0,4}(\"[^\"\n]{1,300}\"|'[^'\n]{1,300}')"
)
# `name: DB_PASSWORD` with its `value:` behind it, as Kubernetes and others list variables.
_NAMED = re.compile(
    r"(?:\\{0,3}[\"'])?,?\s{1,60}(?:\\{0,3}[\"'])?[Vv]alue(?:\\{0,3}[\"'])?[ \t]{0,4}[:=][ \t]{0,4}"
    r"(\\{0,3}[\"'])?"
)
_FLAG = re.compile(
    r"(?:=|[ \t]{1,4}|[\"'],[ \t]{0,4}[\"']?)(\"[^\"\n]{1,300}\"|'[^'\n]{1,300}'"
    r"|[^\s\"',\]]{1,300})"
)
_BLOCK = re.compile(r"[|>][+-]?[0-9]?[ \t]{0,10}\r?\n([ \t]{1,40})(\S[^\r\n]{0,300})")
_JOINT = re.compile(
    r"[ \t]{0,20}[+.\\]?[ \t]{0,20}(?:\r?\n[ \t]{0,80})?[+.]?[ \t]{0,20}[bBrRuUfF]?"
)
_BARE = re.compile(r"[^\s,;\"'`<>{}()\[\]#]{1,300}")
_BARE_LINE = re.compile(r"[^\s\"'`][^\s\"'`]{0,300}")
# Lines on which a value stands without quotes, even in source.
_UNQUOTED = re.compile(
    r"[ \t]{0,20}(?:[#$>!%][ \t]{0,4})?"
    r"(?:(?:export|set|setx|env|%env|%set_env|ENV|ARG|SET|declare -x)[ \t]"
    r"|[A-Z][A-Z0-9_]{2,60}=[^\s=])"
)
# A field of a connection string or of an address's query.
_FIELD = re.compile(r"=([^;&\s\"'<>]{1,400})")
_MOST_PARTS = 12


def assigned_hits(
    text: str, code: bool, count: Callable[[int], None] = lambda _: None
) -> Iterator[Hit]:
    """Every secret-like value given to a secret's name. In `code` it stands between quotes."""
    after = 0
    for seed in SEEDS.finditer(text):
        if seed.start() < after:
            continue
        start, end = _name_around(text, seed.start())
        after = max(end, seed.end())
        count(_BACK + _WINDOW)
        name = text[start:end]
        promise = name_of(name)
        if promise is None:
            continue
        for begin, stop, value, quoted in _values(text, start, end, code):
            count(stop - begin)
            if is_secret(value, promise, quoted, name):
                yield Hit(begin, stop, RULE, _kind(name, promise), value, False, name)
                after = max(after, stop)
                break


def pair_hit(name: str, value: str) -> Hit | None:
    """The same for a name and a value that something has already told apart."""
    promise = name_of(name)
    if promise is None or not is_secret(value, promise, True, name):
        return None
    return Hit(0, len(value), RULE, _kind(name, promise), value, False, name[:80])


_SERVICES = (
    *(("wandb", "Weights & Biases key"), ("comet", "Comet key"), ("neptune", "Neptune token")),
    *(("mlflow", "MLflow credential"), ("twilio", "Twilio token"), ("datadog", "Datadog key")),
    *(("aws_secret", "AWS secret access key"), ("databricks", "Databricks token")),
)


def _kind(name: str, promise: NameOf) -> str:
    lower = name.lower()
    for word, kind in _SERVICES:
        if word in lower:
            return kind
    return "password" if promise is NameOf.PASSWORD else "key or token"


def _name_around(text: str, at: int) -> tuple[int, int]:
    """The whole name that holds the seed."""
    start = at
    least = max(0, at - _BACK)
    while start > least and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
        start -= 1
    # `\npassword` in a text within a text: the letter belongs to the line's end.
    if start and text[start - 1] == "\\" and text[start] in "nrt" and start < at:
        start += 1
    found = _NAME.match(text, at)
    end = at if found is None else found.end()
    while end > at and text[end - 1] in ".-":
        end -= 1
    # "api key", with a blank, ends behind the seed's last word.
    seed = SEEDS.match(text, at)
    end = max(end, seed.end() if seed is not None else at)
    more = _NAME.match(text, end) if end < len(text) and text[end - 1].isalnum() else None
    return start, end if more is None else more.end()


def _values(text: str, start: int, end: int, code: bool) -> Iterator[tuple[int, int, str, bool]]:
    """Each reading of what follows a name as its value: where, what, and whether quoted."""
    before = text[start - 1] if start else "\n"
    if before == "<" and (found := _ELEMENT.match(text, end)) is not None:
        yield *found.span(1), found[1], False
        return
    if before in "\"'" and (found := _ATTRIBUTE.match(text, end)) is not None:
        yield found.start(1) + 1, found.end(1) - 1, found[1][1:-1], True
        return
    if text[start : start + 2] == "--" and (found := _FLAG.match(text, end)) is not None:
        value, quoted = found[1], found[1][0] in "\"'"
        trim = 1 if quoted else 0
        yield found.start(1) + trim, found.end(1) - trim, value[trim : len(value) - trim], True
        return
    if before in ";&?" and (found := _FIELD.match(text, end)) is not None:
        yield *found.span(1), found[1], False
        return
    gives = _NAMED.match(text, end, end + _WINDOW) or _GIVES.match(text, end, end + _WINDOW)
    if gives is None:
        return
    quote, at = gives[1], gives.end()
    if quote is not None:
        value, stop = _quoted(text, at, quote)
        yield at, stop, value, True
        return
    if (block := _BLOCK.match(text, at, at + 400)) is not None:
        yield *block.span(2), block[2].rstrip(), False
        return
    if "(" in gives[0] or "," in gives[0]:
        return
    line = text.rfind("\n", max(0, start - 200), start) + 1
    if code and not _UNQUOTED.match(text, line, end + 2):
        return
    if (bare := _BARE_LINE.match(text, at)) is not None:
        value = bare[0].rstrip(",;")
        yield at, at + len(value), value, False
        if (part := _BARE.match(text, at)) is not None and part[0] != value:
            yield *part.span(), part[0], False


def _quoted(text: str, at: int, quote: str) -> tuple[str, int]:
    """The text up to the quote that closes it, and texts that are joined to it."""
    parts, end = [], at
    for _ in range(_MOST_PARTS):
        close = _closing(text, at, quote)
        if close < 0:
            break
        parts.append(text[at:close])
        end = close
        joint = _JOINT.match(text, close + len(quote))
        behind = close + len(quote) if joint is None else joint.end()
        if behind == close + len(quote) or not text.startswith(quote, behind):
            break
        at = behind + len(quote)
    return "".join(parts), end


def _closing(text: str, at: int, quote: str) -> int:
    close = text.find(quote, at, at + LONGEST + 1)
    # A quote that is itself escaped closes nothing.
    while close > 0 and quote[0] != "\\" and text[close - 1] == "\\":
        close = text.find(quote, close + 1, at + LONGEST + 1)
    return close
