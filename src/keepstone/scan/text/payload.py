"""Words of an attack, as they stand in a text that something else may run.

Not a search for bad strings in weights: this is asked only of texts that a loader reads as
text, and of those only what an honest configuration has no reason to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A shell reads what another machine sends, or talks to one.
SHELL = re.compile(
    r"""
      (?:curl|wget|fetch)\b[^|\n;]{0,400}\|\s*(?:sudo\s+)?(?:env\s+)?
        (?:ba|z|da|k|c)?sh\b
    | (?:curl|wget|fetch)\b[^|\n;]{0,400}\|\s*(?:sudo\s+)?(?:python|perl|ruby|node|php)[\d.]*\b
    | base64\s+(?:-d|-D|--decode)\b[^\n]{0,200}\|\s*\w*sh\b
    | (?:ba|z|da)?sh\s+(?:-\w+\s+){0,5}<\(\s*(?:curl|wget)
    | (?:ba|z|da)?sh\s+-c\s+["']?\$\(\s*(?:curl|wget)
    | /dev/(?:tcp|udp)/
    | \bnc(?:at)?\s+(?:-\w+\s+){0,8}-\w*[ec]\b
    | \b(?:ba|z)?sh\s+-i\b
    | \bpowershell(?:\.exe)?\s+(?:-\w+\s+){0,8}-(?:e|enc|encodedcommand|c|command|w)\b
    | \bmkfifo\s+/tmp/
    | \brm\s+-(?:rf|fr)\s+(?:/|~|\$HOME)
    | >>?\s*(?:~|\$HOME|/root|/home/\w+)/\.(?:ssh|bashrc|profile|bash_profile|zshrc)
    | \bcrontab\s+-
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Python that gets at the machine out of a single expression.
PYTHON = re.compile(
    r"""
      __import__\s*\(
    | \b(?:os|posix|nt)\s*\.\s*(?:system|popen|exec[lv]\w*|spawn\w*|posix_spawn\w*|startfile)\s*\(
    | \bsubprocess\s*\.\s*(?:run|Popen|call|check_call|check_output|getoutput|getstatusoutput)\s*\(
    | \b(?:eval|exec)\s*\(\s*(?:compile|base64|bytes|zlib|codecs|marshal|requests|urllib|open|b64)
    | \bmarshal\s*\.\s*loads\s*\(
    | \bpty\s*\.\s*spawn\s*\(
    | \bimportlib\s*\.\s*import_module\s*\(
    | __subclasses__\s*\(
    | __(?:builtins|globals|mro|bases)__\s*(?:\[|\.)
    """,
    re.VERBOSE,
)
# Classes with which Java and .NET readers of XML and JSON are made to run something.
HOST = re.compile(
    r"""
      \bjava\.lang\.(?:Runtime|ProcessBuilder|ProcessImpl|ClassLoader|System|Thread|reflect)\b
    | \bjava\.beans\.(?:XMLDecoder|EventHandler)\b
    | \bjava\.net\.(?:URLClassLoader|URL|Socket|InetAddress)\b
    | \bjava\.rmi\.\w | \bjava\.io\.(?:ObjectInputStream|File\w*)\b | \bjava\.nio\.file\b
    | \bjavax\.(?:script|naming|management|swing|el|imageio)\.\w
    | \bjavassist\b | \bsun\.(?:misc|reflect|rmi|awt|print|tracing)\.\w
    | \bcom\.sun\.(?:org\.apache|rowset|jndi|tools|xml)\b
    | \borg\.(?:springframework|codehaus\.groovy|mozilla\.javascript|python\.util|beanshell)\b
    | \borg\.apache\.(?:commons\.(?:collections|beanutils|configuration|fileupload|jxpath|io)
        |xalan|xbean|bcel|ibatis|log4j|logging|velocity)\b
    | \bgroovy\.(?:lang|util)\.\w | \bbsh\.Interpreter\b | \bch\.qos\.logback\b
    | \bTemplatesImpl\b | \bScriptEngineManager\b | \bProcessBuilder\b
    | \bSystem\.Diagnostics\.Process\b | \bObjectDataProvider\b | \bSystem\.Windows\.Data\b
    | \bSystem\.Management\.Automation\b | \bSystem\.Configuration\.Install\b
    | \bSystem\.Reflection\.Assembly\b | \bSystem\.Runtime\.Remoting\b
    | \$\{\s*(?:jndi|\$\{|script:|dns:|url:) | \b(?:ldaps?|rmi|iiop)://
    """,
    re.VERBOSE,
)
# Jinja and its like, reaching out of their sandbox.
_REACHES = re.compile(r"__[a-z]{2,20}__|\blipsum\b|\bcycler\b|\|\s{0,9}attr\s{0,9}\(|\\x5f\\x5f")
# A pattern is worth trying only where one of its words stands; looking for a word is cheap.
_WORDS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (
        SHELL,
        (
            *("curl", "wget", "fetch", "base64", "/dev/", "nc ", "ncat", "sh -i", "powershell"),
            *("mkfifo", "rm -", "/.ssh", "/.bash", "/.profile", "/.zshrc", "crontab", "<("),
        ),
    ),
    (
        PYTHON,
        (
            *("__import__", "system", "popen", "Popen", "spawn", "startfile", "subprocess", "exec"),
            *("eval", "marshal", "import_module", "__subclasses__", "__builtins__", "__globals__"),
            *("__mro__", "__bases__"),
        ),
    ),
    (
        HOST,
        (
            *("java", "sun.", "org.", "groovy", "bsh.", "logback", "TemplatesImpl"),
            *("ScriptEngine", "ProcessBuilder", "ObjectDataProvider", "System.", "${", "ldap"),
            *("rmi:", "iiop:"),
        ),
    ),
)


# The longest that a pattern spans on either side of one of its words.
_AROUND = 600


def attack_in(text: str) -> str | None:
    """The words of an attack in `text`, or None."""
    small = text.lower()
    if len(small) != len(text):
        # A few letters have no small one of the same length: places must stay what they are.
        small = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    for pattern, words in _WORDS:
        # What the shell says is in any case of letters.
        held = small if pattern is SHELL else text
        for piece in _near(text, held, words):
            if match := pattern.search(piece):
                return " ".join(match.group().split())
    return None


def _near(text: str, held: str, words: tuple[str, ...]) -> Iterator[str]:
    """The parts of a text around the words, as they are found in `held`; few texts have any."""
    places = []
    for word in words:
        at = held.find(word)
        while at >= 0:
            places.append(at)
            # A word that stands close by lies in the same part.
            at = held.find(word, at + _AROUND // 2)
    start, end = 0, 0
    for at in sorted(places):
        if at - _AROUND > end:
            yield text[start:end]
            start = at - _AROUND
        end = at + _AROUND
    yield text[start:end]


def template_reaches(text: str) -> bool:
    """True where a text has Jinja in it, and words with which it reaches out of its sandbox."""
    return ("{{" in text or "{%" in text) and _REACHES.search(text) is not None
