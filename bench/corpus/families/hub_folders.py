"""Hugging Face folders: configuration that names code, and templates that are programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.corpus.case import CODE, Case, fail, good
from bench.corpus.families.gguf_files import HOSTILE, ORDINARY
from bench.corpus.families.safetensors_files import framed
from bench.corpus.opcodes import pickled, shell

_TEMPLATE, _CODE, _NONE = "chat template by hand", "remote code by hand", "none"
_CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 3,
    "torch_dtype": "float32",
    "transformers_version": "4.46.0",
}
_TOKENIZER: dict[str, object] = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "model_max_length": 64,
    "clean_up_tokenization_spaces": False,
}
_BAD = pickled(shell(), 2)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def _weights() -> bytes:
    tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    return framed({"model.norm.weight": tensor, "__metadata__": {"format": "pt"}}, bytes(16))


def _folder(
    config: dict[str, object] | None = None,
    tokenizer: dict[str, object] | None = None,
    **more: bytes,
) -> dict[str, bytes]:
    files = {
        "config.json": _json({**_CONFIG, **(config or {})}),
        "tokenizer_config.json": _json({**_TOKENIZER, **(tokenizer or {})}),
        "tokenizer.json": _json(
            {
                "version": "1.0",
                "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "a": 2}, "merges": []},
                "added_tokens": [],
            }
        ),
        "special_tokens_map.json": _json({"bos_token": "<s>", "eos_token": "</s>"}),
        "generation_config.json": _json({"bos_token_id": 0, "eos_token_id": 1, "max_length": 64}),
        "model.safetensors": _weights(),
        "README.md": b"---\nlicense: apache-2.0\n---\n# A model\n",
    }
    return files | {key.replace("_dot_", "."): value for key, value in more.items()}


def _honest(seed: int) -> Iterator[Case]:
    yield good("plain", _folder(), _TEMPLATE)
    for slug, text in ORDINARY.items():
        yield good(f"template_{slug}", _folder(tokenizer={"chat_template": text}), _TEMPLATE)
    named = [
        {"name": "default", "template": ORDINARY["chatml"]},
        {"name": "tool_use", "template": ORDINARY["macro"]},
    ]
    yield good("templates_named", _folder(tokenizer={"chat_template": named}), _TEMPLATE)
    yield good(
        "template_file", _folder(chat_template_dot_jinja=ORDINARY["llama"].encode()), _TEMPLATE
    )
    index = {
        "metadata": {"total_size": 16},
        "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"},
    }
    sharded = _folder()
    sharded["model-00001-of-00001.safetensors"] = sharded.pop("model.safetensors")
    sharded["model.safetensors.index.json"] = _json(index)
    yield good("sharded", sharded, _TEMPLATE)
    adapter = {
        "peft_type": "LORA",
        "base_model_name_or_path": "a/b",
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    yield good(
        "adapter",
        {"adapter_config.json": _json(adapter), "adapter_model.safetensors": _weights()},
        _TEMPLATE,
    )
    image = {"image_processor_type": "ViTImageProcessor", "size": {"height": 4, "width": 4}}
    yield good("image_processor", _folder(preprocessor_config_dot_json=_json(image)), _TEMPLATE)


def _bad(seed: int) -> Iterator[Case]:
    code = CODE.encode()
    auto: dict[str, object] = {"auto_map": {"AutoModelForCausalLM": "modeling_x.XModel"}}
    remote = "Names code that runs when the model is loaded with trust"
    cases: dict[str, tuple[dict[str, bytes], str]] = {
        "auto_map": (_folder(auto, modeling_x_dot_py=code), _CODE),
        "auto_map_config": (
            _folder(
                {"auto_map": {"AutoConfig": "configuration_x.XConfig"}}, configuration_x_dot_py=code
            ),
            _CODE,
        ),
        "auto_map_tokenizer": (
            _folder(
                tokenizer={"auto_map": {"AutoTokenizer": ["tok_x.X", None]}}, tok_x_dot_py=code
            ),
            _CODE,
        ),
        "auto_map_elsewhere": (
            _folder({"auto_map": {"AutoModel": "someone/else--modeling_x.X"}}),
            _NONE,
        ),
        "auto_map_processor": (
            _folder(
                preprocessor_config_dot_json=_json(
                    {"auto_map": {"AutoImageProcessor": "proc_x.X"}}
                ),
                proc_x_dot_py=code,
            ),
            _CODE,
        ),
        "auto_map_no_file": (_folder(auto), _NONE),
        "custom_pipelines": (
            _folder(
                {"custom_pipelines": {"x": {"impl": "pipe.X", "pt": ["AutoModel"]}}},
                pipe_dot_py=code,
            ),
            _NONE,
        ),
        "custom_generate": (
            _folder(custom_generate__x_dot_py=code) | {"custom_generate/generate.py": code},
            _NONE,
        ),
        "adapter_auto_mapping": (
            {
                "adapter_config.json": _json(
                    {
                        "peft_type": "LORA",
                        "auto_mapping": {"base_model_class": "X", "parent_library": "evil_package"},
                    }
                ),
                "adapter_model.safetensors": _weights(),
            },
            _NONE,
        ),
        "diffusers_class": (
            {
                "model_index.json": _json(
                    {"_class_name": ["pipeline_x", "X"], "unet": ["unet_x", "UNet"]}
                ),
                "pipeline_x.py": code,
                "unet/unet_x.py": code,
            },
            _NONE,
        ),
        "sentence_modules": (
            {
                "modules.json": _json(
                    [{"idx": 0, "name": "0", "path": "", "type": "evil_module.Module"}]
                ),
                "evil_module.py": code,
            },
            _NONE,
        ),
        "pickled_weights": (_folder(pytorch_model_dot_bin=_BAD), _NONE),
        "pickled_arguments": (_folder(training_args_dot_bin=_BAD), _NONE),
        "pickled_optimizer": (
            _folder() | {"checkpoint-1/optimizer.pt": _BAD, "checkpoint-1/rng_state.pth": _BAD},
            _NONE,
        ),
        "pickled_vocabulary": (_folder(vocab_dot_pkl=_BAD), _NONE),
        "index_climbs": (
            _folder()
            | {
                "model.safetensors.index.json": _json(
                    {"weight_map": {"w": "../../corpus-canary.txt"}}
                )
            },
            _NONE,
        ),
        "index_pickle": (
            _folder(weights_dot_dat=_BAD)
            | {"pytorch_model.bin.index.json": _json({"weight_map": {"w": "weights.dat"}})},
            _NONE,
        ),
    }
    for slug, (content, loader) in cases.items():
        yield fail(slug, content, f"{remote}: {slug}.", loader)
    renders = "Reaches for os when its chat template is rendered"
    for slug in (
        "cycler",
        "lipsum",
        "self",
        "subclasses",
        "attr_joined",
        "hex_escape",
        "concatenated",
        "in_macro",
        "with_ordinary",
    ):
        content = _folder(tokenizer={"chat_template": HOSTILE[slug]})
        yield fail(f"template_{slug}", content, f"{renders}: {slug}.", _TEMPLATE)
    named = [
        {"name": "default", "template": ORDINARY["chatml"]},
        {"name": "tool_use", "template": HOSTILE["cycler"]},
    ]
    yield fail(
        "template_named", _folder(tokenizer={"chat_template": named}), f"{renders}.", _TEMPLATE
    )
    yield fail(
        "template_file",
        _folder(chat_template_dot_jinja=HOSTILE["lipsum"].encode()),
        f"{renders}, in a file of its own.",
        _TEMPLATE,
    )
    yield fail(
        "template_additional",
        _folder() | {"additional_chat_templates/rag.jinja": HOSTILE["cycler"].encode()},
        f"{renders}, in a further file.",
        _TEMPLATE,
    )
    yield fail(
        "template_json",
        _folder(chat_template_dot_json=_json({"chat_template": HOSTILE["joiner"]})),
        f"{renders}, in a file of its own.",
        _TEMPLATE,
    )
    yield fail(
        "template_processor",
        _folder(processor_config_dot_json=_json({"chat_template": HOSTILE["namespace"]})),
        f"{renders}, of the processor.",
        _TEMPLATE,
    )


PARTS = (_honest, _bad)
