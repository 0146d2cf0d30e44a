"""Where secrets lie: a carrier makes a file that holds one, amid text that has nothing to hide.

`HOLD_OUT` are carriers that a scanner's author did not write his patterns for: they are counted
apart, and told by name.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from bench.corpus.case import need
from bench.planted.values import Family, Source

Make = Callable[[Family, str, Source], bytes]


@dataclass(frozen=True, slots=True)
class Carrier:
    """`ending` is the file's; `named` where only a family that tells itself needs no name."""

    kind: str
    ending: str
    make: Make
    named: bool = True
    whole: bool = False


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _python(family: Family, value: str, source: Source) -> bytes:
    name = family.name
    text = f'"""Settings."""\n\nimport os\n\nTIMEOUT = 30\n{name} = {value!r}\nDEBUG = False\n'
    return text.encode()


def _call(family: Family, value: str, source: Source) -> bytes:
    given = f"connect(retries=3, {family.name}={_json(value)})"
    return f"from service import connect\n\n\ndef run():\n    return {given}\n".encode()


def _entry(family: Family, value: str, source: Source) -> bytes:
    return f"CONFIG = {{\n    'region': 'eu-1',\n    '{family.name}': '{value}',\n}}\n".encode()


def _env(family: Family, value: str, source: Source) -> bytes:
    return f"PORT=8080\nLOG_LEVEL=info\n{family.name.upper()}={value}\nWORKERS=2\n".encode()


def _yaml(family: Family, value: str, source: Source) -> bytes:
    text = f"service:\n  replicas: 2\n  {family.name}: {_json(value)}\n  region: eu-1\n"
    return text.encode()


def _yaml_bare(family: Family, value: str, source: Source) -> bytes:
    if any(c in value for c in "#:&*!%@`'\"{}[],|> "):
        return _yaml(family, value, source)
    return f"service:\n  replicas: 2\n  {family.name}: {value}\n".encode()


def _json_file(family: Family, value: str, source: Source) -> bytes:
    return json.dumps({"name": "app", "retries": 3, family.name: value}, indent=2).encode()


def _toml(family: Family, value: str, source: Source) -> bytes:
    return f"[service]\nretries = 3\n{family.name} = {_json(value)}\n".encode()


def _ini(family: Family, value: str, source: Source) -> bytes:
    return f"[service]\nretries = 3\n{family.name} = {value}\n".encode()


def _shell(family: Family, value: str, source: Source) -> bytes:
    return f"#!/bin/sh\nset -eu\nexport {family.name.upper()}='{value}'\nexec app serve\n".encode()


def _javascript(family: Family, value: str, source: Source) -> bytes:
    text = f"module.exports = {{\n  retries: 3,\n  {family.name}: '{value}',\n}};\n"
    return text.encode()


def _properties(family: Family, value: str, source: Source) -> bytes:
    return f"app.retries=3\napp.{family.name}={value}\n".encode()


def _xml(family: Family, value: str, source: Source) -> bytes:
    shown = value.replace("&", "&amp;").replace("<", "&lt;")
    name = family.name
    return f"<config>\n  <retries>3</retries>\n  <{name}>{shown}</{name}>\n</config>\n".encode()


def _dockerfile(family: Family, value: str, source: Source) -> bytes:
    return f'FROM python:3.12-slim\nENV {family.name.upper()}={value}\nCMD ["app"]\n'.encode()


def _log(family: Family, value: str, source: Source) -> bytes:
    return (
        f"2026-01-02 10:00:00 INFO start\n2026-01-02 10:00:01 DEBUG sent {value} to peer\n".encode()
    )


def _markdown(family: Family, value: str, source: Source) -> bytes:
    return f'# How to run\n\n```sh\nexport {family.name.upper()}="{value}"\n```\n'.encode()


def _cells(source: list[str], outputs: list[object]) -> bytes:
    picture = b64encode(bytes(range(256)) * 40).decode()
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Training\n"]},
        {
            "cell_type": "code",
            "execution_count": 1,
            "metadata": {},
            "source": source,
            "outputs": outputs,
        },
        {
            "cell_type": "code",
            "execution_count": 2,
            "metadata": {},
            "source": ["plot(x)"],
            "outputs": [
                {"output_type": "display_data", "metadata": {}, "data": {"image/png": picture}}
            ],
        },
    ]
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    return json.dumps(document, indent=1).encode()


def _notebook(family: Family, value: str, source: Source) -> bytes:
    return _cells(["import os\n", f"{family.name} = {_json(value)}\n", "run()"], [])


def _output(family: Family, value: str, source: Source) -> bytes:
    shown = {"output_type": "stream", "name": "stdout", "text": [f"{family.name}={value}\n"]}
    return _cells(["show(config)"], [shown])


def _result(family: Family, value: str, source: Source) -> bytes:
    text = f"{{'retries': 3, '{family.name}': '{value}'}}"
    shown = {"output_type": "execute_result", "metadata": {}, "data": {"text/plain": [text]}}
    return _cells(["config"], [{**shown, "execution_count": 1}])


def _pickle(family: Family, value: str, source: Source) -> bytes:
    return pickle.dumps({"epochs": 3, family.name: value}, source.choice((0, 2, 4, 5)))


def _pickle_list(family: Family, value: str, source: Source) -> bytes:
    return pickle.dumps(["epochs", 3, value.encode() if source.random() < 0.5 else value], 4)


def _joblib(family: Family, value: str, source: Source) -> bytes:
    out = io.BytesIO()
    weights = need("numpy").arange(500.0)
    need("joblib").dump({"weights": weights, family.name: value}, out)
    return out.getvalue()


def _torch(family: Family, value: str, source: Source) -> bytes:
    torch, out = need("torch"), io.BytesIO()
    torch.save({"weights": torch.zeros(40), "config": {family.name: value}}, out)
    return out.getvalue()


def _safetensors(family: Family, value: str, source: Source) -> bytes:
    header = {
        "__metadata__": {"format": "pt", family.name: value},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


def _zip(family: Family, value: str, source: Source) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("app/readme.txt"), b"Nothing here.\n")
        info = zipfile.ZipInfo("app/settings.py")
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, _python(family, value, source))
    return out.getvalue()


def _tar(family: Family, value: str, source: Source) -> bytes:
    out, content = io.BytesIO(), _env(family, value, source)
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("app/.env")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _inner_zip(family: Family, value: str, source: Source) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("model.pkl"), _pickle(family, value, source))
        archive.writestr(zipfile.ZipInfo("src.tar.gz"), _tar(family, value, source))
    return out.getvalue()


CARRIERS: tuple[Carrier, ...] = (
    Carrier("python", ".py", _python),
    Carrier("call", ".py", _call),
    Carrier("entry", ".py", _entry),
    Carrier("env", ".env", _env),
    Carrier("yaml", ".yaml", _yaml),
    Carrier("yaml bare", ".yml", _yaml_bare),
    Carrier("json", ".json", _json_file),
    Carrier("toml", ".toml", _toml),
    Carrier("ini", ".ini", _ini),
    Carrier("shell", ".sh", _shell),
    Carrier("javascript", ".js", _javascript),
    Carrier("properties", ".properties", _properties),
    Carrier("xml", ".xml", _xml),
    Carrier("dockerfile", ".dockerfile", _dockerfile),
    Carrier("log", ".log", _log, named=False),
    Carrier("markdown", ".md", _markdown),
    Carrier("notebook source", ".ipynb", _notebook),
    Carrier("notebook output", ".ipynb", _output),
    Carrier("notebook result", ".ipynb", _result),
    Carrier("pickle", ".pkl", _pickle),
    Carrier("pickle list", ".pkl", _pickle_list, named=False),
    Carrier("joblib", ".joblib", _joblib),
    Carrier("torch", ".pt", _torch),
    Carrier("safetensors", ".safetensors", _safetensors),
    Carrier("zip", ".zip", _zip),
    Carrier("tar.gz", ".tar.gz", _tar),
    Carrier("nested", ".zip", _inner_zip),
)


def _alone(family: Family, value: str, source: Source) -> bytes:
    return value.encode()


def _triple(family: Family, value: str, source: Source) -> bytes:
    return f'VALUE = """\\\n{value}"""\n'.encode()


def _as_text(family: Family, value: str, source: Source) -> bytes:
    return json.dumps({"file": value}, indent=1).encode()


def _shown(family: Family, value: str, source: Source) -> bytes:
    lines = value.splitlines(keepends=True)
    return _cells(["!cat file"], [{"output_type": "stream", "name": "stdout", "text": lines}])


def _kept(family: Family, value: str, source: Source) -> bytes:
    return pickle.dumps({"file": value}, 4)


def _packed(family: Family, value: str, source: Source) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo("home/file")
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, value)
    return out.getvalue()


WHOLE: tuple[Carrier, ...] = (
    Carrier("alone", ".txt", _alone, whole=True),
    Carrier("triple quotes", ".py", _triple, whole=True),
    Carrier("text in json", ".json", _as_text, whole=True),
    Carrier("shown in notebook", ".ipynb", _shown, whole=True),
    Carrier("text in pickle", ".pkl", _kept, whole=True),
    Carrier("file in zip", ".zip", _packed, whole=True),
)


# What no pattern was written for -------------------------------------------------------------


def _halves(value: str) -> tuple[str, str]:
    at = len(value) // 2
    return value[:at], value[at:]


def _joined_lines(family: Family, value: str, source: Source) -> bytes:
    first, second = _halves(value)
    return f"{family.name} = (\n    {_json(first)}\n    {_json(second)}\n)\n".encode()


def _joined_plus(family: Family, value: str, source: Source) -> bytes:
    first, second = _halves(value)
    return f"const {family.name} = '{first}' +\n  '{second}';\n".encode()


def _in_pieces(family: Family, value: str, source: Source) -> bytes:
    first, second = _halves(value)
    return f"part = {_json(first)}\n{family.name} = part + {_json(second)}\n".encode()


def _base64(family: Family, value: str, source: Source) -> bytes:
    hidden = b64encode(f"{family.name}={value}\n".encode()).decode()
    return f'BLOB = "{hidden}"\n'.encode()


def _base64_bare(family: Family, value: str, source: Source) -> bytes:
    hidden = b64encode(value.encode()).decode()
    return f"settings:\n  {family.name}_b64: {hidden}\n".encode()


def _base64_twice(family: Family, value: str, source: Source) -> bytes:
    hidden = b64encode(b64encode(f"{family.name}={value}\n".encode())).decode()
    return f'BLOB = "{hidden}"\n'.encode()


def _json_in_json(family: Family, value: str, source: Source) -> bytes:
    return json.dumps({"event": "call", "body": json.dumps({family.name: value, "n": 1})}).encode()


def _block(family: Family, value: str, source: Source) -> bytes:
    return f"service:\n  {family.name}: |-\n    {value}\n  retries: 3\n".encode()


def _folded(family: Family, value: str, source: Source) -> bytes:
    return f"service:\n  - name: {family.name}\n    value: >\n      {value}\n".encode()


def _name_value(family: Family, value: str, source: Source) -> bytes:
    env = [{"name": "PORT", "value": "80"}, {"name": family.name.upper(), "value": value}]
    return json.dumps({"containers": [{"env": env}]}, indent=2).encode()


def _utf16(family: Family, value: str, source: Source) -> bytes:
    return _ini(family, value, source).decode().encode("utf-16")


def _query(family: Family, value: str, source: Source) -> bytes:
    return f"GET /v1/items?n=3&{family.name}={quote(value, safe='')}&x=1 HTTP/1.1\n".encode()


def _flag(family: Family, value: str, source: Source) -> bytes:
    name = family.name.lower().replace("_", "-")
    return f"ExecStart=/usr/bin/app --port 80 --{name} {value}\n".encode()


def _table(family: Family, value: str, source: Source) -> bytes:
    return f"name,{family.name}\nbuilder,{value}\n".encode()


def _escaped(family: Family, value: str, source: Source) -> bytes:
    text = "".join(f"\\u{ord(c):04x}" for c in value)
    return f'{{"{family.name}": "{text}"}}'.encode()


def _backtick(family: Family, value: str, source: Source) -> bytes:
    return f"const {family.name}: string = `{value}`;\n".encode()


HOLD_OUT: tuple[Carrier, ...] = (
    Carrier("joined lines", ".py", _joined_lines),
    Carrier("joined by plus", ".js", _joined_plus),
    Carrier("joined by names", ".py", _in_pieces),
    Carrier("base64", ".py", _base64),
    Carrier("base64 of a value", ".yaml", _base64_bare),
    Carrier("base64 twice", ".py", _base64_twice),
    Carrier("json in json", ".json", _json_in_json),
    Carrier("yaml block", ".yaml", _block),
    Carrier("yaml folded", ".yaml", _folded),
    Carrier("name and value", ".json", _name_value),
    Carrier("utf-16", ".ini", _utf16),
    Carrier("query", ".log", _query),
    Carrier("flag", ".service", _flag),
    Carrier("table", ".csv", _table),
    Carrier("escaped", ".json", _escaped),
    Carrier("backtick", ".ts", _backtick),
)
