"""The known shapes of tokens: one table, a line for each, with the check that each must pass.

A shape is searched by its anchors, which are plain texts, and matched there in a bounded window:
the time is linear whatever the text is. A wrong checksum or structure is no finding, and neither
is an example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from re import Match, Pattern

from keepstone.identity.apikeys import is_well_formed
from keepstone.scan.secrets.checks import (
    crc_base62,
    decodes_to,
    has_openai_mark,
    is_bech32,
    is_discord,
    is_macaroon,
    is_placeholder,
    json_of,
    jwt_note,
)
from keepstone.scan.secrets.found import Hit

TOKEN, CREDENTIAL, KEY = "secret.token", "secret.credential", "secret.private_key"
Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Shape:
    """`pattern` is matched `back` characters before an anchor, and reads `wide` at most.

    Group 1, where there is one, is the value; all of the match otherwise. `joins` are characters
    that a longer text of the same kind would go on with: at them no token begins or ends. A shape
    that is `free` begins in no fixed way: its pattern, bounded itself, is searched wherever the
    text has the anchor at all. `random` says that nobody guesses the value.
    """

    kind: str
    anchors: tuple[str, ...]
    pattern: Pattern[str]
    check: Check | None = None
    rule: str = TOKEN
    back: int = 0
    wide: int = 512
    random: bool = True
    joins: str = "_"
    free: bool = False
    note: Callable[[str], str | None] | None = None


def _shape(kind: str, anchor: str, rest: str, check: Check | None = None, **more: object) -> Shape:
    """A token that begins with its anchor."""
    return Shape(kind, (anchor,), re.compile(re.escape(anchor) + rest), check, **more)  # type: ignore[arg-type]


def _prefixed(kind: str, anchors: str, rest: str, check: Check | None = None) -> Shape:
    names = tuple(anchors.split())
    words = "|".join(re.escape(name) for name in names)
    return Shape(kind, names, re.compile(f"(?:{words}){rest}"), check)


def _has(key: str, part: str) -> bool:
    value = json_of(part)
    return value is not None and key in value


_W, _A, _H = r"[A-Za-z0-9_-]", r"[A-Za-z0-9]", r"[0-9a-f]"

SHAPES: tuple[Shape, ...] = (
    _prefixed("AWS access key id", "AKIA ASIA ABIA ACCA", r"[A-Z2-7]{16}"),
    _shape("AWS Bedrock API key", "ABSK", r"[A-Za-z0-9+/]{109,269}={0,2}"),
    _prefixed("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", _A + r"{36}", crc_base62),
    _shape("GitHub fine-grained token", "github_pat_", _A + r"{22}_" + _A + r"{59}"),
    _prefixed(
        "GitLab token",
        "glpat- gldt- glrt- glsoat- glft- glimt- glagent- glcbt- glffct-",
        _W + r"{20,300}(?:\.[0-9a-z]{2}[0-9a-z]{7})?",
    ),
    _shape("GitLab trigger token", "glptt-", _H + r"{40}"),
    _shape("npm token", "npm_", _A + r"{36}", crc_base62),
    _shape("PyPI token", "pypi-AgE", _W + r"{60,1000}", is_macaroon, wide=1100),
    _shape("RubyGems key", "rubygems_", _H + r"{48}"),
    _shape("NuGet key", "oy2", r"[a-z0-9]{43}"),
    _shape("crates.io token", "cio", r"[A-Za-z0-9]{32}"),
    _prefixed("Hugging Face token", "hf_ api_org_", r"[A-Za-z0-9]{34}"),
    Shape(
        "OpenAI key",
        ("sk-",),
        re.compile(
            r"sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,120}T3BlbkFJ[A-Za-z0-9_-]{20,120}"
            r"|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})"
        ),
        has_openai_mark,
    ),
    _prefixed(
        "Anthropic key", "sk-ant-api03- sk-ant-admin01- sk-ant-oat01- sk-ant-sid01-", _W + r"{93}AA"
    ),
    _shape("OpenRouter key", "sk-or-v1-", _H + r"{64}"),
    _shape("Groq key", "gsk_", _A + r"{52}"),
    _shape("Replicate token", "r8_", _A + r"{37}"),
    _shape("Perplexity key", "pplx-", _A + r"{48}"),
    _shape("xAI key", "xai-", _A + r"{80}"),
    _shape("NVIDIA key", "nvapi-", _W + r"{60,70}"),
    _shape("Pinecone key", "pcsk_", r"[A-Za-z0-9]{5,6}_[A-Za-z0-9]{60,64}"),
    _prefixed("LangSmith key", "lsv2_pt_ lsv2_sk_", _H + r"{32}_" + _H + r"{10}"),
    _shape("Weights & Biases key", "wandb_v1_", _W + r"{40,120}"),
    Shape(
        "Neptune token",
        ("eyJhcGlf",),
        re.compile(r"eyJhcGlf[A-Za-z0-9+/]{40,400}={0,2}"),
        partial(_has, "api_key"),
    ),
    _shape("Google API key", "AIza", _W + r"{35}"),
    _shape("Google client secret", "GOCSPX-", _W + r"{28}"),
    _shape("Google access token", "ya29.", _W + r"{60,1200}", wide=1300),
    Shape(
        "Azure storage or service key",
        ("AccountKey=", "AccessKey="),
        re.compile(r"(?:AccountKey|AccessKey)=([A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==)"),
        lambda value: decodes_to(64, value) or decodes_to(32, value),
        joins="",
    ),
    Shape(
        "Azure shared access signature",
        ("sig=",),
        re.compile(r"sig=((?:[A-Za-z0-9]|%2[BbFf]|[+/]){42,130}(?:%3[Dd]|=))"),
        lambda value: decodes_to(32, _unquoted(value)),
        joins="",
    ),
    Shape(
        "Azure client secret",
        ("Q~",),
        re.compile(r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}"),
        back=4,
    ),
    Shape(
        "Azure DevOps token", ("AZDO",), re.compile(r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}"), back=76
    ),
    _prefixed(
        "Slack token",
        "xoxb- xoxp- xoxa- xoxr- xoxs- xoxo- xoxe- xoxe.",
        r"(?:xox[bp]-)?[0-9]{1,13}-[A-Za-z0-9-]{20,240}",
    ),
    _shape("Slack app token", "xapp-", r"[0-9]-[A-Z0-9]{9,13}-[0-9]{10,14}-[0-9a-f]{64}"),
    _shape(
        "Slack webhook",
        "hooks.slack.com/",
        r"(?:services|workflows)/([TA][A-Z0-9]{8,12}/[A-Z0-9]{8,20}/[A-Za-z0-9]{20,30})",
        joins="",
    ),
    _prefixed("Stripe key", "sk_live_ rk_live_ sk_test_ rk_test_", _A + r"{24,120}"),
    _shape("Stripe webhook secret", "whsec_", r"[A-Za-z0-9+/]{32,64}={0,2}"),
    _shape("Twilio key", "SK", _H + r"{32}"),
    _shape("SendGrid key", "SG.", _W + r"{22}\." + _W + r"{43}"),
    _shape("Mailgun key", "key-", _H + r"{32}"),
    Shape("Mailchimp key", ("-us",), re.compile(_H + r"{32}-us[0-9]{1,2}"), back=32),
    Shape(
        "Telegram bot token",
        (":AA",),
        re.compile(r"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"),
        free=True,
        joins="",
    ),
    Shape(
        "Discord bot token",
        (".",),
        re.compile(
            r"(?<![\w-])[MNO][A-Za-z0-9]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,45}", re.ASCII
        ),
        is_discord,
        free=True,
    ),
    _shape("Discord webhook", "/api/webhooks/", r"([0-9]{17,20}/[A-Za-z0-9_-]{60,80})", joins=""),
    _prefixed("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", _H + r"{64}"),
    _shape("Databricks token", "dapi", _H + r"{32}(?:-[0-9])?"),
    _shape("Docker Hub token", "dckr_pat_", _W + r"{27}"),
    _prefixed("HashiCorp Vault token", "hvs. hvb.", _W + r"{24,300}"),
    Shape(
        "Terraform token",
        (".atlasv1.",),
        re.compile(_A + r"{14}\.atlasv1\." + _W + r"{60,70}"),
        back=14,
    ),
    _shape("Grafana token", "glsa_", _A + r"{32}_[0-9A-Fa-f]{8}"),
    _shape("Grafana Cloud token", "glc_", r"[A-Za-z0-9+/]{32,400}={0,2}"),
    _shape("Linear key", "lin_api_", _A + r"{40}"),
    _shape("Notion token", "ntn_", _A + r"{46}"),
    _shape("Postman key", "PMAK-", _H + r"{24}-" + _H + r"{34}"),
    _prefixed("Shopify token", "shpat_ shpca_ shppa_ shpss_", _H + r"{32}"),
    _prefixed(
        "PlanetScale secret", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[A-Za-z0-9_.-]{32,64}"
    ),
    _shape("Pulumi token", "pul-", _H + r"{40}"),
    _prefixed("Doppler token", "dp.pt. dp.st. dp.sa.", r"[A-Za-z0-9._-]{40,60}"),
    _shape("Airtable token", "pat", _A + r"{14}\." + _H + r"{64}"),
    _shape("Atlassian token", "ATATT3xFfGF0", r"[A-Za-z0-9_=-]{150,250}"),
    _shape("Sentry token", "sntrys_eyJ", r"[A-Za-z0-9+/=]{80,400}_?[A-Za-z0-9+/]{0,44}"),
    _shape("1Password service token", "ops_eyJ", r"[A-Za-z0-9_-]{200,1200}={0,2}", wide=1300),
    _shape(
        "Keepstone API key", "ks_", r"[a-z0-9]{12}_" + _W + r"{43}" + _A + r"{6}", is_well_formed
    ),
    Shape(
        "age secret key",
        ("AGE-SECRET-KEY-1",),
        re.compile(r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
        is_bech32,
        KEY,
    ),
    Shape(
        "JSON Web Token",
        ("eyJ",),
        re.compile(
            r"eyJ[A-Za-z0-9_-]{10,2000}={0,2}\.eyJ[A-Za-z0-9_-]{2,6000}={0,2}\.[A-Za-z0-9_-]{20,1400}"
        ),
        wide=9500,
        joins="_-",
        note=jwt_note,
    ),
)
# The token that jwt.io has shown since it opened, signed with a published text.
_JWT_EXAMPLE = (
    ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwi",
    ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0",
)


def _unquoted(value: str) -> str:
    for code, letter in (("%2b", "+"), ("%2f", "/"), ("%3d", "=")):
        value = value.replace(code, letter).replace(code.upper(), letter)
    return value


def token_hits(text: str, count: Callable[[int], None] = lambda _: None) -> Iterator[Hit]:
    """Every token of a known shape. `count` is told how many characters each match may read."""
    for shape in SHAPES:
        if shape.free:
            if any(anchor in text for anchor in shape.anchors):
                count(len(text))
                found = (_judge(shape, text, one) for one in shape.pattern.finditer(text))
                yield from (hit for hit in found if hit is not None)
            continue
        for anchor in shape.anchors:
            at = text.find(anchor)
            while at >= 0:
                start = at - shape.back
                match = None
                if start >= 0 and _begins(text, start, shape.joins):
                    match = shape.pattern.match(text, start, start + shape.wide)
                hit = None if match is None else _judge(shape, text, match)
                count(shape.wide if match is not None else len(anchor) + shape.back)
                if hit is not None:
                    yield hit
                at = text.find(anchor, at + len(anchor) if hit is None else max(hit.end, at + 1))


def _judge(shape: Shape, text: str, found: Match[str]) -> Hit | None:
    """The token that was matched; None for a look-alike or an example."""
    start, end = found.span(1 if shape.pattern.groups else 0)
    value = text[start:end]
    last = found.end()
    if last < len(text) and _goes_on(text[last], shape.joins):
        return None
    if is_placeholder(value):
        return None
    if shape.check is not None and not shape.check(value):
        return None
    note = shape.note(value) if shape.note is not None else ""
    if note is None or any(part in value for part in _JWT_EXAMPLE):
        return None
    return Hit(start, end, shape.rule, shape.kind, value, shape.random, note=note)


def _begins(text: str, start: int, joins: str) -> bool:
    """True where nothing before `start` makes a longer word of what begins there."""
    if not start or not joins or not _goes_on(text[start - 1], joins):
        return True
    # `\n` and `%3D` in front of a token are no letters of it.
    return text[start - 2 : start - 1] == "\\" or text[max(0, start - 3) : start - 2] == "%"


def _goes_on(letter: str, joins: str) -> bool:
    return letter.isascii() and (letter.isalnum() or letter in joins)
