"""Configuration that names what builds it: YAML's tags, Hydra's targets, and their relatives."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.corpus.case import Case, fail, good

_YAML, _HYDRA, _LOGGING, _NONE = (
    "yaml.unsafe_load",
    "targets by hand",
    "logging.dictConfig",
    "none",
)


def _honest(seed: int) -> Iterator[Case]:
    training = {
        "model": {"name": "resnet", "layers": [64, 128]},
        "lr": 0.001,
        "epochs": 3,
        "data": {"path": "data/train.csv", "shuffle": True},
    }
    yield good("training.json", json.dumps(training, indent=1).encode(), "json")
    yield good("training.yaml", b"model:\n  name: resnet\n  layers: [64, 128]\nlr: 0.001\n", _YAML)
    yield good("training.toml", b'[model]\nname = "resnet"\nlayers = [64, 128]\n', _HYDRA)
    yield good(
        "hydra_torch.yaml",
        b"optimizer:\n  _target_: torch.optim.Adam\n  _partial_: true\n  lr: 0.001\n",
        _NONE,
    )
    yield good("anchors.yaml", b"base: &base\n  lr: 0.1\nrun:\n  <<: *base\n  epochs: 3\n", _YAML)
    yield good("tuple.yaml", b"shape: [1, 2]\nwhen: 2026-01-02\nnote: |\n  two\n  lines\n", _YAML)
    yield good("labels.json", json.dumps({"0": "cat", "1": "dog"}).encode(), "json")
    yield good(
        "schema.json",
        json.dumps(
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "properties": {"x": {"type": "number"}},
            }
        ).encode(),
        "json",
    )
    yield good("vocabulary.txt", b"[PAD]\n[UNK]\nthe\nof\n", _NONE)
    yield good(
        "metrics.json", json.dumps({"accuracy": 0.9, "history": [0.1, 0.2]}).encode(), "json"
    )


_TAGS = {
    "apply_system": "!!python/object/apply:os.system ['true']",
    "apply_popen": "!!python/object/apply:subprocess.Popen [['true']]",
    "apply_eval": '!!python/object/apply:builtins.eval [\'__import__("os").system("true")\']',
    "apply_exec": "!!python/object/apply:builtins.exec ['import os; os.system(\"true\")']",
    "new": "!!python/object/new:subprocess.Popen [['true']]",
    "new_state": "!!python/object/new:type\nargs: [x, !!python/tuple [], {extend: !!python/name:"
    "exec }]\nlistitems: 'import os; os.system(\"true\")'",
    "module": "!!python/module:antigravity",
    "name": "!!python/name:os.system",
    "deep": "a:\n  b:\n    - c: !!python/object/apply:os.system ['true']",
    "second_document": "a: 1\n---\nb: !!python/object/apply:os.system ['true']",
    "whole_tag": "!<tag:yaml.org,2002:python/object/apply:os.system> ['true']",
    "tag_directive": "%TAG !p! tag:yaml.org,2002:python/object/apply:\n--- !p!os.system ['true']",
    "escaped_tag": "!!python%2Fobject%2Fapply:os.system ['true']",
    "as_key": "? !!python/object/apply:os.system ['true']\n: 1",
    "in_merge": "a: &x !!python/object/apply:os.system ['true']\nb: *x",
    "ruby": "--- !ruby/object:Gem::Installer\ni: x",
    "java": "!!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[!!java.net.URL"
    " ['http://127.0.0.1:9/']]]]",
}
_TARGETS = {
    "system": {"x": {"_target_": "os.system", "command": "true"}},
    "popen": {"x": {"_target_": "subprocess.Popen", "args": ["true"]}},
    "nested": {"a": [{"b": {"_target_": "posix.system", "_args_": ["true"]}}]},
    "eval": {"x": {"_target_": "builtins.eval", "_args_": ["1"]}},
    "exec": {"x": {"_target_": "builtins.exec", "_args_": ["1"]}},
    "through_torch": {"x": {"_target_": "torch.serialization.os.system", "command": "true"}},
    "through_logging": {"x": {"_target_": "logging.os.popen", "cmd": "true"}},
    "torch_load": {"x": {"_target_": "torch.load", "f": "corpus-canary.txt"}},
    "pickle_load": {"x": {"_target_": "pandas.read_pickle", "_args_": ["corpus-canary.txt"]}},
    "numpy_load": {
        "x": {"_target_": "numpy.load", "file": "corpus-canary.txt", "allow_pickle": True}
    },
    "get_method": {"x": {"_target_": "hydra.utils.get_method", "path": "os.system"}},
    "import_module": {"x": {"_target_": "importlib.import_module", "name": "antigravity"}},
    "runpy": {"x": {"_target_": "runpy.run_path", "path_name": "corpus-canary.txt"}},
    "urlretrieve": {"x": {"_target_": "urllib.request.urlretrieve", "url": "http://127.0.0.1:9/"}},
    "partial": {"x": {"_target_": "os.system", "_partial_": True}},
    "shutil": {"x": {"_target_": "shutil.copyfile", "src": "corpus-canary.txt", "dst": "made"}},
}


def _bad(seed: int) -> Iterator[Case]:
    for slug, text in _TAGS.items():
        loader = _NONE if slug in ("ruby", "java", "name", "second_document") else _YAML
        yield fail(
            f"tag_{slug}.yaml", f"{text}\n".encode(), f"A tag names what builds it: {slug}.", loader
        )
    for slug, tree in _TARGETS.items():
        loader = _NONE if slug in ("partial", "get_method") else _HYDRA
        yield fail(
            f"target_{slug}.json",
            json.dumps(tree).encode(),
            f"A target names what is called: {slug}.",
            loader,
        )
    yaml = b"model:\n  _target_: os.system\n  command: 'true'\n"
    yield fail("target_yaml.yaml", yaml, "A target names what is called.", _HYDRA)
    yield fail(
        "target_toml.toml",
        b'[model]\n_target_ = "os.system"\ncommand = "true"\n',
        "A target names what is called.",
        _HYDRA,
    )
    yield fail(
        "target_named.txt", yaml, "A target names what is called; the name says text.", _NONE
    )
    escaped = b'{"x": {"\\u005ftarget_": "os.s\\u0079stem", "command": "true"}}'
    yield fail("target_escaped.json", escaped, "A target names what is called, in escapes.", _HYDRA)
    factory = {"version": 1, "formatters": {"x": {"()": "os.system", "command": "true"}}}
    yield fail(
        "logging_factory.json",
        json.dumps(factory).encode(),
        "Configures logging with a factory that is os.system.",
        _LOGGING,
    )
    handler = {
        "version": 1,
        "handlers": {"x": {"class": "logging.FileHandler", "filename": "made"}},
        "root": {"handlers": ["x"]},
    }
    yield fail(
        "logging_file.json",
        json.dumps(handler).encode(),
        "Configures logging into a file.",
        _LOGGING,
    )
    pickled = {"py/reduce": [{"py/type": "os.system"}, {"py/tuple": ["true"]}]}
    yield fail(
        "jsonpickle_reduce.json", json.dumps(pickled).encode(), "jsonpickle calls os.system.", _NONE
    )
    named = {"py/object": "subprocess.Popen", "args": ["true"]}
    yield fail(
        "jsonpickle_object.json", json.dumps(named).encode(), "jsonpickle builds Popen.", _NONE
    )
    lightning = {"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}}
    yield fail(
        "class_path.json",
        json.dumps({"model": lightning}).encode(),
        "Lightning builds Popen.",
        _NONE,
    )
    chain = {
        "lc": 1,
        "type": "constructor",
        "id": ["subprocess", "Popen"],
        "kwargs": {"args": ["true"]},
    }
    yield fail("langchain.json", json.dumps(chain).encode(), "LangChain builds Popen.", _NONE)


PARTS = (_honest, _bad)
