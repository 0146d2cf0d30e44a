"""Whether a value that is given to a secret's name is one: by its letters, not by its meaning.

Left alone are placeholders, references to where the secret is kept, code, hashes of passwords,
UUIDs, paths, and words. What is left must be mixed as keys are: the bound is Shannon's entropy
over its characters, for each class of them (hexadecimal, letters and digits, anything).
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from math import log2

from keepstone.scan.secrets.checks import is_placeholder
from keepstone.scan.secrets.names import NameOf

# Longer ones are tokens that say themselves what they are.
LONGEST = 300
# So much of a value tells how it is mixed.
_HEAD = 128
_UUID = re.compile(r"\{?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?\Z")
_REFERENCE = re.compile(
    r"\$|%[A-Za-z_(]|\{\{|<[%A-Za-z/]|\{[A-Za-z_][\w.\[\]()'\"]{0,80}[}:!]|@[A-Za-z]+@|#\{|env[:.(]"
    r"|(?:os|process|System|ENV|config|settings|secrets|vault|var|local|data|self|this|args|kwargs"
    r"|request|options|params)[.\[(]|!(?:Ref|Sub|GetAtt|vault|env)|vault:|ssm:|sops|ENC\[|op://|arn:"
    r"|file:|/run/secrets|secretKeyRef|keyring|\(\)"
)
_HASHED = re.compile(
    r"\$(?:2[abxy]|5|6|1|y|apr1|argon2\w{0,2}|scrypt|pbkdf2)|\{?(?:SHA|SSHA|MD5|CRYPT)|pbkdf2|scrypt:"
    r"|argon2|bcrypt|sha(?:1|256|384|512)[-:=]|md5[-:=]|blake[23]|SCRAM-SHA",
    re.IGNORECASE,
)
_PATH = re.compile(
    r"(?:[A-Za-z]:[\\/]|[.~]{0,2}/)[\w .~/\\-]*\Z|[\w./-]+\.(?:py|js|ts|json|ya?ml|txt|pem|key"
    r"|crt|md|go|rs|toml|ini|cfg|conf|html?|css|png|svg|jpe?g|log|db|sql|xml|sh|env|lock)\Z"
    r"|https?://[^@]{0,300}\Z"
)
_CODE = re.compile(
    r"[A-Za-z_][\w.]*\([^()]{0,300}\)?[;,]?\Z|[\w.]+\[[^\[\]]{0,300}\]|=>|->|&&|\|\||==|None\b|null\b"
    r"|lambda\b|.{0,300}(?:&&|\|\||=>|::)"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{1,3}(?:\.\d{1,3}){3}|v?\d+(?:\.\d+){1,3}[\w.+-]{0,12}\Z")
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
_WORD = re.compile(r"[A-Za-z]+(?:[ _./:-]+[A-Za-z]+)*[0-9]?[.!?:]?\Z")
_TEST = re.compile(
    r"(?:^|[^a-z])(?:test|tests|testing|foo|foobar|bar|baz|spam|eggs|mock|stub|demo|pass(?:word|wd)?|secret|token"
    r"|api[_-]?key|none|null|true|false|undefined|default|unknown|string|value|hello|world|abc|letmein"
    r"|my[_-]?(?:pass|secret|token|key)\w*)(?:[^a-z]|$)",
    re.IGNORECASE,
)
_LEAST = {NameOf.PASSWORD: 6, NameOf.KEY: 12}


def is_secret(value: str, promise: NameOf, quoted: bool, name: str = "") -> bool:
    """True where `value` is mixed as a secret is. `quoted` says that it stood between quotes."""
    if not _LEAST[promise] <= len(value) <= LONGEST or value.lower() == name.lower():
        return False
    if left_alone(value) or _UUID.match(value) or _DATE.match(value) or _WORD.match(value):
        return False
    if any(c.isspace() for c in value) and not (quoted and promise is NameOf.PASSWORD):
        return False
    if not value.isprintable() or (not quoted and _CODE.match(value)):
        return False
    return _is_mixed(value, promise)


def left_alone(value: str) -> bool:
    """True for what stands for a secret, or is made of one so that it cannot be had back."""
    return (
        _TEST.search(value) is not None
        or _REFERENCE.match(value) is not None
        or "${" in value
        or "{{" in value
        or _HASHED.match(value) is not None
        or _PATH.match(value) is not None
        or is_placeholder(value[:_HEAD])
    )


def _is_mixed(value: str, promise: NameOf) -> bool:
    value = value[:_HEAD]
    digits = sum(c.isdigit() for c in value)
    letters = sum(c.isalpha() for c in value)
    others = len(value) - digits - letters
    per = entropy(value)
    if promise is NameOf.PASSWORD:
        # A person's: two classes at least, and no sentence.
        if value.count(" ") > 3:
            return False
        cases = any(c.islower() for c in value) and any(c.isupper() for c in value)
        kinds = bool(digits) + bool(letters) + bool(others) + cases
        return (kinds >= 2 and bool(digits or others) and per >= 2.0) or (kinds >= 2 and per >= 3.4)
    if _HEX.match(value):
        return len(value) >= 16 and digits > 0 and letters > 0 and per >= 2.6
    if digits == 0 or letters == 0:
        return len(value) >= 24 and per >= 4.0 and letters > 0 and _changes(value) > 0.25
    if others > len(value) // 3:
        return False
    return per >= (3.0 if len(value) < 20 else 3.3) and not _is_words(value)


def _is_words(value: str) -> bool:
    """`some-css-class-2` and `claude_v1_model`: words with a number among them."""
    parts = [part for part in re.split(r"[-_. :/]+", value) if part]
    plain = [part for part in parts if part.isdigit() or (part.isalpha() and _is_word(part))]
    short = [part for part in parts if len(part) <= 3]
    return len(parts) > 1 and len({*plain, *short}) >= len({*parts})


def _is_word(part: str) -> bool:
    vowels = sum(c in "aeiouyAEIOUY" for c in part)
    return (
        len(part) <= 14
        and (part.islower() or part.istitle() or part.isupper())
        and (len(part) < 4 or 0.15 < vowels / len(part) < 0.75)
    )


def _changes(value: str) -> float:
    """How often lower and upper case change, for each letter."""
    swaps = sum(a.isupper() != b.isupper() for a, b in pairwise(value))
    return swaps / len(value)


def entropy(value: str) -> float:
    """Shannon's entropy in bits for each character."""
    counts, length = Counter(value).values(), len(value)
    return -sum(n / length * log2(n / length) for n in counts)
