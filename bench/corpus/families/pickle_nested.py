"""Pickles in pickles, and payloads behind an encoding: the outer file shows only a decoder."""

from __future__ import annotations

import base64
import bz2
import codecs
import gzip
import lzma
import marshal
import pickle
import zlib
from collections.abc import Iterator

from bench.corpus.case import CODE, EXPRESSION, Case, fail
from bench.corpus.opcodes import (
    EMPTY_DICT,
    LEGACY_HEAD,
    call,
    mapped,
    name,
    octets,
    pickled,
    several,
    shell,
    stacked,
    text,
)

_INNER = pickled(shell())
_LOADERS = {
    "pickle_loads": ("pickle", "loads"),
    "c_pickle_loads": ("_pickle", "loads"),
    "python_loads": ("pickle", "_loads"),
    "cloudpickle_loads": ("cloudpickle", "loads"),
    "dill_loads": ("dill", "loads"),
    "joblib_cloudpickle": ("joblib.externals.cloudpickle", "loads"),
    "torch_storage": ("torch.storage", "_load_from_bytes"),
    "multiprocessing": ("multiprocessing.reduction", "ForkingPickler.loads"),
    "email_codec": ("logging.handlers", "pickle.loads"),
    "lib2to3": ("lib2to3.pgen2.grammar", "pickle.loads"),
}


def _loads(seed: int) -> Iterator[Case]:
    for slug, (module, attribute) in _LOADERS.items():
        inner = _INNER
        if slug == "torch_storage":
            inner = LEGACY_HEAD + pickled(shell(), 2) + pickle.dumps([], 2)
        yield fail(
            f"loads_{slug}.pkl",
            pickled(call(stacked(module, attribute), octets(inner))),
            f"Loads a pickle that lies in it as bytes, by {module}.{attribute}.",
        )
    deep = _INNER
    for _ in range(12):
        deep = pickled(call(name("pickle", "loads"), octets(deep)))
    yield fail("loads_twelve_deep.pkl", deep, "Loads a pickle in a pickle, twelve deep.")
    yield fail(
        "loads_string_latin1.pkl",
        pickled(
            call(
                name("_pickle", "loads"),
                call(name("_codecs", "encode"), text(_INNER.decode("latin1")), text("latin1")),
            ),
            2,
        ),
        "Loads a pickle that lies in it as text in latin-1, as protocol 2 writes bytes.",
    )
    yield fail(
        "unpickler_object.pkl",
        pickled(
            call(
                stacked("pickle", "_Unpickler.load"),
                call(stacked("pickle", "_Unpickler"), call(name("_io", "BytesIO"), octets(_INNER))),
            )
        ),
        "Builds an unpickler and runs it.",
    )
    yield fail(
        "pickle_load_file.pkl",
        pickled(call(name("pickle", "load"), call(name("_io", "BytesIO"), octets(_INNER)))),
        "Loads a pickle from a stream that it builds.",
    )


def _encoded(seed: int) -> Iterator[Case]:
    code = compile(CODE, "<payload>", "exec")
    decoders = {
        "base64": (("base64", "b64decode"), base64.b64encode(_INNER)),
        "base85": (("base64", "b85decode"), base64.b85encode(_INNER)),
        "base32": (("base64", "b32decode"), base64.b32encode(_INNER)),
        "binascii": (("binascii", "a2b_base64"), base64.b64encode(_INNER)),
        "hex": (("binascii", "unhexlify"), _INNER.hex().encode()),
        "zlib": (("zlib", "decompress"), zlib.compress(_INNER)),
        "gzip": (("gzip", "decompress"), gzip.compress(_INNER, mtime=0)),
        "bz2": (("bz2", "decompress"), bz2.compress(_INNER)),
        "lzma": (("lzma", "decompress"), lzma.compress(_INNER)),
        "codecs_hex": (("_codecs", "decode"), codecs.encode(_INNER, "hex")),
        "codecs_zip": (("codecs", "decode"), codecs.encode(_INNER, "zip")),
    }
    extra = {"codecs_hex": (text("hex"),), "codecs_zip": (text("zip"),)}
    for slug, ((module, attribute), data) in decoders.items():
        decoded = call(name(module, attribute), octets(data), *extra.get(slug, ()))
        yield fail(
            f"encoded_{slug}.pkl",
            pickled(call(name("pickle", "loads"), decoded)),
            f"Loads a pickle that it decodes first: {slug}.",
        )
    yield fail(
        "encoded_exec_base64.pkl",
        pickled(
            call(
                name("builtins", "exec"),
                call(name("base64", "b64decode"), octets(base64.b64encode(CODE.encode()))),
            )
        ),
        "Executes source that lies in it as base64.",
    )
    yield fail(
        "encoded_exec_rot13.pkl",
        pickled(
            call(
                name("builtins", "exec"),
                call(name("codecs", "decode"), text(codecs.encode(CODE, "rot13")), text("rot13")),
            )
        ),
        "Executes source that lies in it as rot13.",
    )
    yield fail(
        "marshal_exec.pkl",
        pickled(
            call(
                name("builtins", "exec"),
                call(name("marshal", "loads"), octets(marshal.dumps(code))),
            )
        ),
        "Executes byte code that lies in it.",
    )
    function = call(
        name("types", "FunctionType"),
        call(name("marshal", "loads"), octets(marshal.dumps(code))),
        mapped(("__builtins__", stacked("builtins", "__dict__"))),
    )
    yield fail("marshal_function.pkl", pickled(call(function)), "Makes a function, and calls it.")
    yield fail(
        "compile_exec.pkl",
        pickled(
            call(
                name("builtins", "exec"),
                call(name("builtins", "compile"), text(CODE), text("<x>"), text("exec")),
            )
        ),
        "Compiles source, and executes it.",
    )


def _elsewhere(seed: int) -> Iterator[Case]:
    """The second file is opened by its name: what lies there is nobody's to judge."""
    openers = {
        "pandas_read_pickle": ("pandas", "read_pickle"),
        "pandas_io_read_pickle": ("pandas.io.pickle", "read_pickle"),
        "joblib_load": ("joblib", "load"),
        "joblib_numpy_pickle": ("joblib.numpy_pickle", "load"),
        "torch_jit_load": ("torch.jit", "load"),
        "runpy_path": ("runpy", "run_path"),
        "skops_load": ("skops.io", "load"),
        "shelve_open": ("shelve", "open"),
        "tracemalloc": ("tracemalloc", "Snapshot.load"),
    }
    for slug, (module, attribute) in openers.items():
        yield fail(
            f"opens_{slug}.pkl",
            pickled(call(stacked(module, attribute), text("corpus-canary.txt"))),
            f"Opens another file as a model, by {module}.{attribute}.",
        )
    for slug, module, attribute in (
        ("numpy_load", "numpy", "load"),
        ("numpy_lib_load", "numpy.lib._npyio_impl", "load"),
    ):
        yield fail(
            f"opens_{slug}.pkl",
            pickled(stacked(module, attribute) + several(text("corpus-canary.txt")) + b"R"),
            f"Opens another file, by {module}.{attribute}.",
        )
    yield fail(
        "torch_load_bytes.pkl",
        pickled(
            call(
                call(
                    name("functools", "partial"),
                    name("torch", "load"),
                )
                + several(
                    name("torch", "load"),
                    several(call(name("_io", "BytesIO"), octets(_INNER))),
                    mapped(("weights_only", b"\x89")),
                    b"N",
                )
                + b"b"
            )
        ),
        "Loads a pickle by torch.load without its restriction.",
    )
    yield fail(
        "yaml_unsafe_load.pkl",
        pickled(
            call(
                name("yaml", "unsafe_load"),
                text("!!python/object/apply:builtins.eval [" + repr(EXPRESSION) + "]"),
            )
        ),
        "Loads YAML that names a function.",
    )
    yield fail(
        "jinja_template.pkl",
        pickled(
            call(
                stacked("jinja2", "Template.render"),
                call(
                    name("jinja2", "Template"),
                    text("{{ cycler.__init__.__globals__.os.system('true') }}"),
                ),
            )
        ),
        "Renders a template that reaches for os.",
    )
    yield fail(
        "empty_dict_subclass_then_code.pkl",
        pickled(EMPTY_DICT + b"0" + call(name("builtins", "eval"), text(EXPRESSION))),
        "Evaluates text.",
    )


PARTS = (_loads, _encoded, _elsewhere)
