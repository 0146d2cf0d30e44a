"""Naming and opening keys: one text means one key, and no text holds a PIN."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError, OperationalError
from keepstone.identity.keystores import open_signing_key
from keepstone.identity.keystores.reference import (
    FileReference,
    KmsReference,
    TokenAccess,
    TokenReference,
    parse_key_reference,
)
from keepstone.identity.signing import SigningKey, write_secret_file

NOTHING = TokenAccess()
ARN = "arn:aws:kms:eu-central-1:123456789012:key/3387b947-98e3-4151-b6b5-edb193246c4d"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key.pem", FileReference(Path("key.pem"))),
        ("./pkcs11:x", FileReference(Path("./pkcs11:x"))),
        ("pkcs11:token=t;object=k", TokenReference(token="t", label="k")),
        ("PKCS11:serial=0a;id=%00%FF", TokenReference(serial="0a", key_id=b"\x00\xff")),
        (
            "pkcs11:token=a%20b;manufacturer=m;model=x;object=%C3%A9;type=private"
            "?module-path=/lib/x.so&pin-source=file:/run/pin",
            TokenReference(
                "a b", None, "m", "x", "é", module=Path("/lib/x.so"), pin_source=Path("/run/pin")
            ),
        ),
        ("awskms:///alias/models", KmsReference("alias/models")),
        ("awskms:///3387b947-98e3-4151-b6b5-edb193246c4d", KmsReference(ARN.partition("/")[2])),
        (f"AWSKMS:///{ARN}", KmsReference(ARN)),
    ],
)
def test_each_kind_of_name_is_read(text: str, expected: object) -> None:
    assert parse_key_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 5000,
        "a\0b",
        "pkcs11:",
        "pkcs11:token=t",  # any key of the token
        "pkcs11:object=k",  # any token
        "pkcs11:token=t;object=k;object=l",
        "pkcs11:token=t;object=k;slot-id=1",
        "pkcs11:token=t;object=k;x-vendor=1",
        "pkcs11:token=t;object=k;type=public",
        "pkcs11:token=t;object=",
        "pkcs11:token=t;object=%FF",
        "pkcs11:token=t;object=%0A",
        "pkcs11:token=t;object=%zz",
        "pkcs11:token=t;object=a b",
        "pkcs11:token=t;id=",
        "pkcs11:token=t;id=" + "%00" * 257,
        "pkcs11:token=t;object=k?module-name=x",
        "pkcs11:token=t;object=k?module-path=x.so",
        "pkcs11:token=t;object=k?pin-source=%7Ccat",
        "pkcs11:token=t;object=k?module-path=/a&module-path=/b",
        "pkcs11:token=t;object=k?",
        "awskms:x",
        "awskms:///",
        "awskms://evil.example/alias/x",
        "awskms:///alias/",
        "awskms:///arn:aws:s3:::bucket",
        "awskms:///a b",
        "awskms:///../x",
    ],
)
def test_what_names_no_single_key_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_key_reference(text)
    assert caught.value.code == "key.bad_reference"


def test_a_pin_in_a_reference_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        parse_key_reference("pkcs11:token=t;object=k?pin-value=12345")
    assert caught.value.code == "key.pin_in_reference"
    assert "12345" not in str(caught.value) + caught.value.next_step


texts = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


@given(
    st.builds(
        TokenReference,
        token=texts,
        serial=st.none() | texts,
        manufacturer=st.none() | texts,
        model=st.none() | texts,
        label=texts,
        key_id=st.none() | st.binary(min_size=1, max_size=40),
    )
)
def test_a_name_that_is_written_down_names_the_same_key(reference: TokenReference) -> None:
    assert parse_key_reference(str(reference)) == reference


def test_what_is_written_down_loads_no_code() -> None:
    text = "pkcs11:token=t;object=k?module-path=/tmp/evil.so&pin-source=file:/etc/shadow"
    assert str(parse_key_reference(text)) == "pkcs11:token=t;object=k"


@given(st.sampled_from(["", "pkcs11:", "awskms:", "pkcs11:token=t;object=k?"]), st.text())
def test_any_text_is_a_name_or_refused(scheme: str, rest: str) -> None:
    try:
        reference = parse_key_reference(scheme + rest)
    except InputError:
        return
    assert isinstance(reference, FileReference | TokenReference | KmsReference)


def test_a_pin_shows_in_no_repr() -> None:
    assert "4711" not in repr(TokenAccess("4711"))


def test_a_file_is_opened_as_before(tmp_path: Path) -> None:
    key = SigningKey.generate()
    write_secret_file(tmp_path / "key.pem", key.to_pem(b"pass"))
    reference = parse_key_reference(str(tmp_path / "key.pem"))
    opened = open_signing_key(reference, passphrase=b"pass", access=NOTHING)
    assert opened.key_id == key.key_id


@pytest.mark.parametrize(
    ("library", "text", "code"),
    [
        ("pkcs11", "pkcs11:token=t;object=k", "extra.pkcs11"),
        ("boto3", "awskms:///alias/x", "extra.aws"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, text: str, code: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == library:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OperationalError) as caught:
        open_signing_key(parse_key_reference(text), access=TokenAccess("1", Path("/x")))
    assert caught.value.code == code
    assert "pip install" in caught.value.next_step
