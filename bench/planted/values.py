"""One maker for each family of secrets: what it is called, and a fresh one by a random source."""

from __future__ import annotations

import json
import random
import struct
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

ALNUM = ascii_letters + digits
URLSAFE = ALNUM + "-_"
HEX = digits + "abcdef"
BASE32 = ascii_uppercase + "234567"
_BASE62 = digits + ascii_uppercase + ascii_lowercase
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
# No real words of anybody's password; joined as people join them.
_WORDS = ["Harbor", "velvet", "Quartz", "meadow", "Copper", "lantern", "Thistle", "orbit", "Falcon"]

Source = random.Random


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is what the value is usually given to; `whole` where it stands for itself."""

    kind: str
    name: str
    make: Callable[[Source], str]
    whole: bool = False


def some(source: Source, letters: str, count: int) -> str:
    return "".join(source.choices(letters, k=count))


def _plain(prefix: str, letters: str, count: int, suffix: str = "") -> Callable[[Source], str]:
    return lambda source: prefix + some(source, letters, count) + suffix


def _crc(prefix: str) -> Callable[[Source], str]:
    def make(source: Source) -> str:
        body = some(source, ALNUM, 30)
        return prefix + body + _base62(zlib.crc32(body.encode()))

    return make


def _base62(number: int) -> str:
    text = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        text = _BASE62[digit] + text
    return text


def _keepstone(source: Source) -> str:
    secret = urlsafe_b64encode(source.randbytes(32)).rstrip(b"=").decode()
    body = f"ks_{some(source, ascii_lowercase + digits, 12)}_{secret}"
    return body + _base62(zlib.crc32(body.encode()))


def _pypi(source: Source) -> str:
    identifier = json.dumps([1, {"projects": ["p"]}, some(source, HEX, 36)]).encode()
    fields = [(1, b"pypi.org"), (2, identifier)]
    packet = b"\x02" + b"".join(bytes([kind, len(data)]) + data for kind, data in fields) + b"\0"
    caveat = json.dumps({"version": 1, "permissions": "user"}).encode()
    packet += b"\x02" + bytes([len(caveat)]) + caveat + b"\0\0\x06\x20" + source.randbytes(32)
    return "pypi-" + urlsafe_b64encode(packet).rstrip(b"=").decode()


def _jwt(source: Source) -> str:
    head = {"alg": "HS256", "typ": "JWT"}
    body = {"sub": some(source, digits, 8), "exp": 1_700_000_000 + source.randrange(10**8)}
    parts = [json.dumps(head).encode(), json.dumps(body).encode(), source.randbytes(32)]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _age(source: Source) -> str:
    bits = int.from_bytes(source.randbytes(32), "big") << 4
    data = [bits >> 5 * place & 31 for place in reversed(range(52))]
    prefix = "age-secret-key-"
    numbers = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    value = 1
    for number in [*numbers, *data, 0, 0, 0, 0, 0, 0]:
        top, value = value >> 25, (value & 0x1FFFFFF) << 5 ^ number
        for bit, poly in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            value ^= poly if top >> bit & 1 else 0
    data += [(value ^ 1) >> 5 * place & 31 for place in reversed(range(6))]
    return f"{prefix}1{''.join(_BECH32[digit] for digit in data)}".upper()


def _discord(source: Source) -> str:
    user = b64encode(some(source, "123456789", 18).encode()).rstrip(b"=").decode()
    return f"{user}.{some(source, ALNUM, 6)}.{some(source, URLSAFE, 37)}A"


def _neptune(source: Source) -> str:
    text = {"api_address": "https://app.neptune.ai", "api_key": some(source, HEX, 36)}
    return b64encode(json.dumps(text).encode()).decode()


def _storage(source: Source) -> str:
    key = b64encode(source.randbytes(64)).decode()
    return f"DefaultEndpointsProtocol=https;AccountName=st{some(source, HEX, 6)};AccountKey={key}"


def _sas(source: Source) -> str:
    signed = b64encode(source.randbytes(32)).decode()
    quoted = signed.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    host = f"https://{some(source, ascii_lowercase, 9)}.blob.core.windows.net/data"
    return f"{host}?sv=2023-11-03&se=2027-01-01T00%3A00%3A00Z&sr=b&sp=r&sig={quoted}"


def _address(source: Source) -> str:
    user, word = some(source, ascii_lowercase, 6), some(source, ALNUM, 12) + "7"
    return f"postgresql://{user}:{word}@db.{some(source, ascii_lowercase, 8)}.net:5432/models"


def _password(source: Source) -> str:
    first, second = source.sample(_WORDS, 2)
    return (
        f"{first}{source.choice('-_!#%')}{second}{source.randrange(10, 9999)}{source.choice('!?*')}"
    )


def _pem(source: Source) -> str:
    key = ec.derive_private_key(int.from_bytes(source.randbytes(31), "big"), ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _sec1(source: Source) -> str:
    key = ec.derive_private_key(int.from_bytes(source.randbytes(31), "big"), ec.SECP256R1())
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()


def _locked(source: Source) -> str:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(source.randbytes(32))
    hidden = BestAvailableEncryption(some(source, ALNUM, 12).encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden).decode()


def _openssh(source: Source) -> str:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(source.randbytes(32))
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def _service_account(source: Source) -> str:
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "example-project",
            "private_key_id": some(source, HEX, 40),
            "private_key": _pem(source),
            "client_email": "job@example-project.iam.gserviceaccount.com",
        },
        indent=2,
    )


def _minisign(source: Source) -> str:
    raw = b"Ed" + b"Sc" + b"B2" + source.randbytes(152)
    return f"untrusted comment: minisign encrypted secret key\n{b64encode(raw).decode()}\n"


def _putty(source: Source) -> str:
    public, private = (b64encode(source.randbytes(48)).decode() for _ in range(2))
    return (
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: key\nPublic-Lines: 1\n"
        f"{public}\nPrivate-Lines: 1\n{private}\nPrivate-MAC: {some(source, HEX, 64)}\n"
    )


def _pgp(source: Source) -> str:
    public = b"\x09" + bytes.fromhex("2b06010401da470f01") + struct.pack(">H", 263) + b"\x40"
    body = b"\x04" + source.randbytes(4) + b"\x16" + public + source.randbytes(32)
    body += b"\x00" + struct.pack(">H", 256) + source.randbytes(34)
    packet = bytes([0xC5, len(body)]) + body
    text = b64encode(packet).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    block = "PGP PRIVATE KEY BLOCK"
    return f"-----BEGIN {block}-----\n\n{lines}\n=abcd\n-----END {block}-----\n"


def _netrc(source: Source) -> str:
    word = some(source, ALNUM, 16)
    return f"machine git.internal.net\n  login builder\n  password {word}\n"


def _docker(source: Source) -> str:
    auth = b64encode(f"builder:{some(source, ALNUM, 18)}".encode()).decode()
    return json.dumps({"auths": {"registry.internal.net": {"auth": auth}}}, indent=1)


def _kubernetes(source: Source) -> str:
    value = b64encode(some(source, ALNUM, 14).encode()).decode()
    return (
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: database\ntype: Opaque\ndata:\n"
        f"  url-part: {value}\n"
    )


def _aws_pair(source: Source) -> str:
    key = some(source, BASE32, 16)
    secret = some(source, ALNUM + "+/", 40)
    return f"[default]\naws_access_key_id = AKIA{key}\naws_secret_access_key = {secret}\n"


def _basic(source: Source) -> str:
    pair = b64encode(f"svc-{some(source, ascii_lowercase, 4)}:{some(source, ALNUM, 14)}".encode())
    return f"Authorization: Basic {pair.decode()}"


def _slack_hook(source: Source) -> str:
    letters = ascii_uppercase + digits
    parts = "T" + some(source, letters, 8), "B" + some(source, letters, 10), some(source, ALNUM, 24)
    # In two pieces, so that no reader of this file takes it for one.
    return "https://hooks.slack" + ".com/services/" + "/".join(parts)


def _openai(source: Source) -> str:
    mark = "T3Blbk" + "FJ"
    return f"sk-proj-{some(source, URLSAFE, 73)}A{mark}A{some(source, URLSAFE, 72)}A"


FAMILIES: tuple[Family, ...] = (
    Family("aws id", "aws_access_key_id", _plain("AK" + "IA", BASE32, 16)),
    Family("aws pair", "aws", _aws_pair, True),
    Family("github", "GITHUB_TOKEN", _crc("gh" + "p_")),
    Family("github server", "token", _crc("gh" + "s_")),
    Family(
        "github fine-grained",
        "GH_PAT",
        lambda s: "github" + f"_pat_{some(s, ALNUM, 22)}_{some(s, ALNUM, 59)}",
    ),
    Family("gitlab", "CI_TOKEN", _plain("gl" + "pat-", ALNUM, 20)),
    Family("npm", "NPM_TOKEN", _crc("npm" + "_")),
    Family("pypi", "TWINE_PASSWORD", _pypi),
    Family("hugging face", "HF_TOKEN", _plain("h" + "f_", ascii_letters, 34)),
    Family("openai", "OPENAI_API_KEY", _openai),
    Family("anthropic", "ANTHROPIC_API_KEY", _plain("sk-ant-" + "api03-", URLSAFE, 93, "AA")),
    Family("google api", "GOOGLE_API_KEY", _plain("AI" + "za", ALNUM, 35)),
    Family("google client", "client_secret", _plain("GOC" + "SPX-", ALNUM, 28)),
    Family("service account", "credentials", _service_account, True),
    Family("azure storage", "connection_string", _storage),
    Family("azure sas", "url", _sas),
    Family(
        "azure client",
        "AZURE_CLIENT_SECRET",
        lambda s: f"{some(s, ALNUM, 3)}8Q~{some(s, ALNUM, 34)}",
    ),
    Family(
        "slack",
        "SLACK_TOKEN",
        lambda s: "xo" + f"xb-{some(s, digits, 12)}-{some(s, digits, 12)}-{some(s, ALNUM, 24)}",
    ),
    Family("slack webhook", "url", _slack_hook),
    Family("stripe", "STRIPE_KEY", _plain("sk_" + "live_", ALNUM, 24)),
    Family("twilio", "auth_token", _plain("", HEX, 32)),
    Family(
        "sendgrid",
        "SENDGRID_KEY",
        lambda s: "S" + f"G.{some(s, ALNUM, 22)}.{some(s, URLSAFE, 42)}a",
    ),
    Family("telegram", "bot", lambda s: f"{s.randrange(10**9, 9 * 10**9)}:AA{some(s, ALNUM, 33)}"),
    Family("discord", "bot_token", _discord),
    Family("digitalocean", "DO_TOKEN", _plain("dop" + "_v1_", HEX, 64)),
    Family("databricks", "DATABRICKS_TOKEN", _plain("da" + "pi", HEX, 32)),
    Family("wandb", "WANDB_API_KEY", _plain("", HEX, 40)),
    Family("comet", "COMET_API_KEY", _plain("", ALNUM, 25)),
    Family("neptune", "NEPTUNE_API_TOKEN", _neptune),
    Family("mlflow", "MLFLOW_TRACKING_PASSWORD", _password),
    Family("jwt", "authorization", _jwt),
    Family("pem", "key", _pem, True),
    Family("sec1", "key", _sec1, True),
    Family("locked pem", "key", _locked, True),
    Family("openssh", "key", _openssh, True),
    Family("putty", "key", _putty, True),
    Family("pgp", "key", _pgp, True),
    Family("minisign", "key", _minisign, True),
    Family("age", "identity", _age),
    Family("keepstone", "KEEPSTONE_API_KEY", _keepstone),
    Family("netrc", "netrc", _netrc, True),
    Family("docker", "docker", _docker, True),
    Family("kubernetes", "secret", _kubernetes, True),
    Family("address", "DATABASE_URL", _address),
    Family("basic", "header", _basic),
    Family("password", "db_password", _password),
    Family("password upper", "SMTP_PASSWORD", _password),
    Family("secret key", "SECRET_KEY", _plain("", ALNUM + "!@^&*(-_=+)", 50)),
    Family("api key", "api_key", _plain("", ALNUM, 32)),
    Family("hex secret", "client_secret", _plain("", HEX, 64)),
    Family("auth token", "authToken", _plain("", URLSAFE, 43)),
)
