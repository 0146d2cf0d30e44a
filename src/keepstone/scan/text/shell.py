"""Commands of the shell in a notebook's cells: ordinary ones, and those no notebook needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from keepstone.scan.text.payload import attack_in
from keepstone.scan.text.requirements import is_elsewhere
from keepstone.scan.text.words import words

# What ordinary notebooks run: looking around, unpacking data, installing packages, training.
_ORDINARY = frozenset(
    words(
        """
    ls dir pwd cd cat head tail wc du df free nvidia-smi lscpu date which echo mkdir cp mv unzip
    zip tar gunzip gzip tree sort uniq grep find file stat ln sed awk cut less more pip pip3
    conda mamba uv apt apt-get python python3 jupyter git wget curl kaggle gdown gsutil aws
    gcloud huggingface-cli hf accelerate torchrun dvc mlflow tensorboard wandb nvcc make cmake
    npm node java colab-convert nbconvert papermill poetry pytest time sleep export source rm
    rmdir lsb_release ps top htop
    """
    )
)
_INSTALL = re.compile(
    r"\b(?:pip3?|uv|conda|mamba|easy_install|npm|apt|apt-get)\b.*\b(?:install|add)\b"
)
# Output that lands outside of the notebook's own folder.
_REDIRECT = re.compile(r">>?\s*(?:/(?!dev/null)|~|\$HOME)")
# Where everybody keeps source: installing it is ordinary, and not judged.
_PUBLIC = re.compile(r"git\+https://(?:github\.com|gitlab\.com|huggingface\.co|bitbucket\.org)/")
_SPLIT = re.compile(r"\|\||&&|[;|\n]|&(?!\d|>)")
_INTERPRETERS = frozenset(
    words(
        """
    sh bash zsh dash ksh csh fish perl ruby php node lua osascript
    """
    )
)


def shell_problem(command: str) -> str | None:
    """Why a command is one that no ordinary notebook runs, or None."""
    attack = attack_in(command)
    if attack is not None:
        return attack
    if _REDIRECT.search(command):
        return "it writes outside of the folder"
    for part in _SPLIT.split(command.replace("\\\n", " ")):
        words = _words(part)
        while words and (words[0] in ("sudo", "nohup", "time", "exec") or "=" in words[0]):
            words = words[1:]
        if not words or words[0].startswith(("#", "{", "$(")):
            continue
        name = words[0].rsplit("/", 1)[-1]
        if name in _INTERPRETERS or name not in _ORDINARY:
            return f"it runs {name}"
        if name == "rm" and any(word.startswith(("/", "~", "$HOME")) for word in words[1:]):
            return "it deletes outside of the folder"
        if name in ("python", "python3") and "-c" in words:
            return "it runs code given on its line"
        if _INSTALL.search(part) and (address := next(_addresses(words), None)):
            return f"it installs from {address}"
    return None


def _words(part: str) -> list[str]:
    try:
        return shlex.split(part, comments=False)
    except ValueError:
        return part.split()


_CHOOSES = ("--index-url=", "-i=", "--trusted-host=")


def _addresses(words: list[str]) -> Iterator[str]:
    """Where an installation takes its packages from, other than an index it is configured for."""
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if before in ("--extra-index-url", "-f", "--find-links"):
            # One more index beside the configured one is how many a framework is installed.
            continue
        if word in ("-i", "--index-url", "--trusted-host"):
            yield after
        elif word.startswith(("--index-url=", "-i=", "--trusted-host=")) or (
            is_elsewhere(word) and not _PUBLIC.match(word)
        ):
            yield word


# What build scripts and notebooks start from Python: installing, fetching data, unpacking it.
_ROUTINE = frozenset(
    words(
        """
    pip pip3 nvidia-smi git wget unzip tar mkdir nvcc make cmake gdown uv
    """
    )
)


def is_routine(command: str | None) -> bool:
    """True for a command, known word by word, that Python code starts every day."""
    if command is None or shell_problem(command) is not None:
        return False
    words = _words(command)
    while words[:1] == ["sudo"]:
        words = words[1:]
    if words[:3] in (["python", "-m", "pip"], ["python3", "-m", "pip"]):
        return True
    plain = bool(words) and words[0] in _ROUTINE
    return plain and not any(mark in command for mark in (";", "|", "&", "`", "$(", ">"))
