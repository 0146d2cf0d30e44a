"""Pairs of versions to hold our rules against their owners, and what the owners say about them.

`python -m tests.scan.version_pairs alpine 2500` prints pairs, one a line with a tab between.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TABLES = Path(__file__).parent / "versions"
_NUMBERS = ("0", "00", "01", "1", "2", "3", "9", "09", "10", "010", "11", "100", "1000", "20240101")


def _pick(chance: random.Random, words: tuple[str, ...]) -> str:
    return chance.choice(words)


def debian(chance: random.Random) -> str:
    """Versions that dpkg takes, weighted to tildes, letters against signs, epochs and revisions."""
    parts = [_pick(chance, ("0", "1", "2", "10", "1.0", "3.0.11", "1.2.13.dfsg", "20230311"))]
    tails = ("", "~", "~~", "~rc1", "~rc10", "+", "+b1", "+dfsg", "a", "A", "z", ".0", ".1", ".01")
    for _ in range(chance.randrange(3)):
        parts.append(_pick(chance, (*tails, "+git20200101", "-1", ".10", "~a", "-", "0", "00")))
    upstream = "".join(parts)
    epoch = _pick(chance, ("", "", "", "0:", "1:", "2:", "10:", "01:"))
    plain = ("", "", "-0", "-1", "-2", "-10", "-00", "-1.1", "-a", "-r1", "-1~", "-~1")
    named = ("-1+b1", "-1~bpo12+1", "-1+deb12u1", "-1ubuntu1", "-0ubuntu0.1")
    revision = _pick(chance, (*plain, *named))
    return epoch + upstream.rstrip("-") + revision


def alpine(chance: random.Random) -> str:
    """Versions of apk's form, and now and then one that is not."""
    text = _pick(chance, _NUMBERS)
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3))):
        text += "." + _pick(chance, _NUMBERS)
    text += _pick(chance, ("", "", "", "", "a", "b", "z"))
    suffixes = ("alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p")
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2))):
        text += "_" + _pick(chance, suffixes) + _pick(chance, ("", "", "0", "1", "2", "01", "10"))
    text += _pick(chance, ("",) * 8 + ("~0", "~1", "~ab12", "~ab", "~ffff", "~0a"))
    text += _pick(chance, ("", "", "-r0", "-r0", "-r1", "-r2", "-r10", "-r01"))
    if chance.random() < 0.04:
        at = chance.randrange(len(text) + 1)
        text = (
            text[:at]
            + _pick(chance, ("A", "_", "_x", "~", "~g", "-", "..", "-r", "z", "+"))
            + text[at:]
        )
    return text


def pypi(chance: random.Random) -> str:
    """Versions by PEP 440, in the spellings that it takes as one."""
    text = _pick(chance, ("", "", "", "", "0!", "1!", "2!", "v", " "))
    text += _pick(chance, _NUMBERS)
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3))):
        text += "." + _pick(chance, _NUMBERS)
    before = ("a", "b", "rc", "c", "alpha", "beta", "pre", "preview", "RC", "A")
    if chance.random() < 0.35:
        text += _pick(chance, ("", ".", "-", "_")) + _pick(chance, before)
        text += _pick(chance, ("", "0", "1", "2", "01", "10"))
    text += _pick(chance, ("",) * 4 + (".post1", ".post0", ".post", "-1", "-r2", ".rev10", "-0"))
    text += _pick(chance, ("",) * 4 + (".dev1", ".dev0", "dev", "-dev10", ".dev02"))
    return text + _pick(chance, ("",) * 5 + ("+1", "+abc", "+abc.1", "+ABC-2", "+ubuntu.01", "+10"))


def semver(chance: random.Random) -> str:
    """Semantic versions, weighted to what stands before a release."""
    numbers = ("0", "1", "2", "9", "10", "11", "100")
    text = ".".join(_pick(chance, numbers) for _ in range(3))
    words = (
        "alpha",
        "beta",
        "rc",
        "Alpha",
        "a-b",
        "x",
        "0",
        "1",
        "2",
        "10",
        "11",
        "-",
        "1a",
        "--1",
    )
    if chance.random() < 0.6:
        text += "-" + ".".join(_pick(chance, words) for _ in range(chance.choice((1, 1, 2, 3))))
    return text + _pick(chance, ("", "", "", "+build", "+1.2", "+001"))


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "alpine": alpine,
    "debian": debian,
    "npm": semver,
    "pypi": pypi,
}


def pairs(kind: str, count: int, seed: int = 20240601) -> list[tuple[str, str]]:
    """`count` different pairs: a third apart, a third that begin alike, a third one step away."""
    chance, make = random.Random(seed), MAKERS[kind]
    found: dict[tuple[str, str], None] = {}
    while len(found) < count:
        one, way = make(chance), chance.random()
        if way < 0.33:
            other = make(chance)
        elif way < 0.66:
            cut = chance.randrange(len(one) + 1)
            other = one[:cut] + make(chance)[cut:]
        else:
            at = chance.randrange(len(one))
            step = _pick(chance, ("", "0", "1", "9", ".", "~", "-", "a", "_p", "+"))
            other = one[:at] + step + one[at + chance.choice((0, 1)) :]
        if other:
            found[(one, other)] = None
    return list(found)


_ASK_DPKG = r"""
tab=$(printf '\t')
while IFS="$tab" read -r a b; do
  if dpkg --compare-versions "$a" lt "$b"; then echo '<'
  elif dpkg --compare-versions "$a" eq "$b"; then echo '='
  elif dpkg --compare-versions "$a" gt "$b"; then echo '>'
  else echo invalid
  fi
done
"""


def ask_dpkg(asked: list[tuple[str, str]]) -> list[str]:
    """What `dpkg --compare-versions` says about each pair, all in one shell."""
    lines = "".join(f"{one}\t{other}\n" for one, other in asked)
    done = subprocess.run(
        ["sh", "-c", _ASK_DPKG], input=lines, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def read_table(name: str) -> list[tuple[str, str, str]]:
    lines = (TABLES / f"{name}.tsv").read_text().splitlines()
    return [(one, said, other) for one, said, other in (line.split("\t") for line in lines)]


if __name__ == "__main__":
    for pair in pairs(sys.argv[1], int(sys.argv[2])):
        print(*pair, sep="\t")
