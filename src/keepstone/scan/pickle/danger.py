"""Names whose import by a pickle is an attack, and why: the floor that no list can lift.

Everything unknown is flagged anyway. What stands here is called by its name in the report, and
no site's own list may allow it.
"""

from __future__ import annotations

_CODE = "it runs code that it is given"
_COMMANDS = "it runs commands"
_FILES = "it reads, writes or deletes files"
_NETWORK = "it talks to the network"
_REACH = "it reaches any attribute or calls whatever it is given"
_IMPORTS = "it imports modules"
_LOADS = "it loads another pickle, which nobody judged"
_PROCESS = "it controls the process"
_MEMORY = "it reaches raw memory or native libraries"
_MADE = "it makes functions or classes out of code in the file"

# Whole modules, with everything below them.
_MODULES = {
    **dict.fromkeys(("os", "posix", "nt", "posixpath", "ntpath", "pty", "commands"), _COMMANDS),
    **dict.fromkeys(
        ("subprocess", "_posixsubprocess", "popen2", "distutils", "setuptools"), _COMMANDS
    ),
    **dict.fromkeys(
        ("pip", "ensurepip", "venv", "webbrowser", "antigravity", "idlelib"), _COMMANDS
    ),
    **dict.fromkeys(("code", "codeop", "pdb", "bdb", "timeit", "trace", "profile"), _CODE),
    **dict.fromkeys(("cProfile", "doctest", "IPython", "ast", "tkinter", "turtle"), _CODE),
    **dict.fromkeys(("lib2to3", "test", "unittest", "pytest", "_pytest", "pydoc"), _CODE),
    **dict.fromkeys(("runpy", "importlib", "imp", "pkgutil", "zipimport", "site"), _IMPORTS),
    **dict.fromkeys(("_frozen_importlib", "_frozen_importlib_external", "modulefinder"), _IMPORTS),
    **dict.fromkeys(("shutil", "tempfile", "glob", "fileinput", "linecache", "zipfile"), _FILES),
    **dict.fromkeys(("tarfile", "io", "_io", "_pyio", "mmap", "dbm", "sqlite3"), _FILES),
    **dict.fromkeys(("gzip", "bz2", "lzma", "shelve", "compileall", "py_compile"), _FILES),
    **dict.fromkeys(("socket", "_socket", "ssl", "_ssl", "http", "urllib", "urllib2"), _NETWORK),
    **dict.fromkeys(("httplib", "ftplib", "smtplib", "poplib", "imaplib", "telnetlib"), _NETWORK),
    **dict.fromkeys(("nntplib", "xmlrpc", "socketserver", "requests", "httpx"), _NETWORK),
    **dict.fromkeys(("urllib3", "aiohttp", "asyncio", "paramiko", "fsspec"), _NETWORK),
    **dict.fromkeys(("functools", "operator", "_operator", "itertools"), _REACH),
    **dict.fromkeys(("inspect", "types", "new", "weakref", "gc", "atexit"), _REACH),
    **dict.fromkeys(("sys", "signal", "threading", "_thread", "multiprocessing"), _PROCESS),
    **dict.fromkeys(("_multiprocessing", "concurrent", "resource", "sched"), _PROCESS),
    **dict.fromkeys(("faulthandler", "tracemalloc", "logging", "warnings"), _PROCESS),
    **dict.fromkeys(("ctypes", "_ctypes", "cffi", "_cffi_backend", "marshal"), _MEMORY),
    **dict.fromkeys(("pickle", "_pickle", "cPickle", "pickletools", "dill"), _LOADS),
    **dict.fromkeys(("cloudpickle", "jsonpickle", "yaml", "joblib"), _LOADS),
    **dict.fromkeys(("numpy.f2py", "numpy.distutils", "numpy.testing", "numpy.ctypeslib"), _CODE),
    **dict.fromkeys(("torch.utils.cpp_extension", "torch.hub", "torch.package"), _CODE),
    **dict.fromkeys(("torch.fx", "torch._dynamo", "torch._inductor", "torch.jit"), _CODE),
    **dict.fromkeys(("torch.distributed", "torch.multiprocessing", "torch.testing"), _PROCESS),
    **dict.fromkeys(("nltk", "cgitb", "bottle", "flask", "jinja2", "mako"), _CODE),
}
_NAMES = {
    **{
        ("builtins", name): why
        for names, why in (
            ("eval exec execfile compile", _CODE),
            ("__import__ reload", _IMPORTS),
            ("getattr setattr delattr vars globals locals dir apply map filter", _REACH),
            ("type object.__getattribute__ property super staticmethod classmethod", _REACH),
            ("open file input raw_input", _FILES),
            ("breakpoint exit quit help print", _PROCESS),
            ("__build_class__ memoryview", _REACH),
        )
        for name in names.split()
    },
    **{
        ("numpy", name): why
        for names, why in (
            ("load loads", _LOADS),
            ("save savez savez_compressed savetxt fromfile genfromtxt loadtxt memmap", _FILES),
            ("fromregex DataSource fromstring lib.npyio.load", _FILES),
            (
                "vectorize apply_along_axis apply_over_axes frompyfunc piecewise fromfunction",
                _REACH,
            ),
        )
        for name in names.split()
    },
    **{
        ("torch", name): why
        for names, why in (
            ("load", _LOADS),
            ("save from_file", _FILES),
            ("compile", _CODE),
        )
        for name in names.split()
    },
    ("torch.storage", "UntypedStorage.from_file"): _FILES,
    ("torch.serialization", "load"): _LOADS,
    ("numpy.lib.npyio", "load"): _LOADS,
    ("numpy.lib._npyio_impl", "load"): _LOADS,
    ("numpy.core", "memmap"): _FILES,
    ("pandas", "eval"): _CODE,
    ("pandas", "read_pickle"): _LOADS,
    ("pandas.io.pickle", "read_pickle"): _LOADS,
    ("pandas.core.computation.eval", "eval"): _CODE,
    ("copyreg", "add_extension"): _REACH,
    ("copyreg", "pickle"): _REACH,
    ("codecs", "open"): _FILES,
    ("scipy.io", "loadmat"): _FILES,
    ("sklearn.utils", "_joblib"): _LOADS,
    ("xgboost.core", "_load_lib"): _MEMORY,
}


def why_dangerous(module: str, name: str) -> str | None:
    """Why importing this name is an attack, or None where nobody says so."""
    top = name.partition(".")[0]
    for made in (
        "_make_function",
        "_make_skel_func",
        "_builtin_type",
        "subimport",
        "dynamic_subimport",
    ):
        if module.startswith(("cloudpickle", "joblib.externals.cloudpickle")) and name == made:
            return _MADE if made.startswith("_make") else _IMPORTS
    if module.startswith("dill") and name in ("_create_function", "_create_code", "_create_type"):
        return _MADE
    if (found := _NAMES.get((module, name)) or _NAMES.get((module, top))) is not None:
        return found
    parts = module.split(".")
    for count in range(len(parts), 0, -1):
        why = _MODULES.get(".".join(parts[:count]))
        if why is not None:
            return why
    # An attribute that leads through a module or a type leads anywhere.
    if any(part.startswith("__") and part.endswith("__") for part in name.split(".")):
        return _REACH
    return None
