"""Code that only computes: all that it imports and reaches for stands on a list.

Promise: code that is called ordinary names no function that starts a program, runs a text, opens
a connection, deletes a file or reaches into Python itself. What is not on the lists is not
ordinary, whatever it would do. It is for notebooks, which nothing runs by itself.
"""

from __future__ import annotations

import ast

from keepstone.scan.text.words import words

# Libraries of data work, and those parts of the standard library that compute or show.
_MODULES = frozenset(
    words(
        """
    numpy pandas scipy sklearn matplotlib mpl_toolkits seaborn plotly altair bokeh statsmodels
    polars pyarrow xgboost lightgbm catboost torch torchvision torchaudio tensorflow keras jax
    flax transformers tokenizers datasets evaluate accelerate peft timm onnx onnxruntime skl2onnx
    safetensors PIL cv2 skimage imageio shap captum optuna tqdm IPython ipywidgets networkx nltk
    spacy gensim sympy imblearn category_encoders
    abc argparse bisect calendar collections colorsys copy csv dataclasses datetime decimal
    difflib enum fractions functools gc hashlib heapq itertools json logging math numbers operator
    os pathlib pprint random re statistics string sys textwrap time typing unicodedata uuid
    warnings zoneinfo __future__
    """
    )
)
# What may be reached in modules that can do more than compute.
_PARTS = {
    "os": frozenset(words("path environ getcwd listdir makedirs mkdir sep cpu_count getenv walk")),
    "sys": frozenset(words("version version_info platform stdout stderr argv maxsize byteorder")),
    "IPython": frozenset(words("display")),
}
_FORBIDDEN_NAMES = frozenset(
    words(
        """
    eval exec compile __import__ globals locals vars getattr setattr delattr breakpoint
    __builtins__ __loader__ __spec__ get_ipython
    """
    )
)
# Ways out of libraries that are on the list.
_FORBIDDEN_PARTS = frozenset(
    words(
        """
    system popen hub cpp_extension load_library f2py ctypeslib distutils testing read_pickle
    read_sql read_html rmtree unlink rmdir rename replace_file fromfile memmap py_function
    numpy_function run_functions_eagerly load_op_library read_file write_file unsafe_load
    get_ipython subprocess builtins importlib ctypes pickle marshal socket
    """
    )
)
_DUNDERS = frozenset(words("__name__ __version__ __init__ __class__ __file__ __doc__ __len__"))


def is_ordinary(tree: ast.Module) -> bool:
    """True where every import, name and attribute of the code is an ordinary one."""
    modules = _imported(tree)
    return modules is not None and all(_is_fine(node, modules) for node in ast.walk(tree))


def _imported(tree: ast.Module) -> dict[str, str] | None:
    """What each imported name stands for, or None where an import is not ordinary."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                top = item.name.split(".", 1)[0]
                found[item.asname or top] = item.name if item.asname else top
                if not _may_reach(item.name):
                    return None
        elif isinstance(node, ast.ImportFrom):
            for item in node.names:
                whole = f"{node.module}.{item.name}"
                if node.level or item.name == "*" or not _may_reach(whole):
                    return None
                found[item.asname or item.name] = whole
    return found


def _may_reach(name: str) -> bool:
    parts = name.split(".")
    return (
        parts[0] in _MODULES
        and not _FORBIDDEN_PARTS & set(parts)
        and (len(parts) < 2 or parts[1] in _PARTS.get(parts[0], {parts[1]}))
    )


def _is_fine(node: ast.AST, modules: dict[str, str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name not in _FORBIDDEN_NAMES
        case ast.Attribute(value=value, attr=attr):
            if attr in _FORBIDDEN_PARTS or (attr.startswith("__") and attr not in _DUNDERS):
                return False
            if isinstance(value, ast.Name) and value.id in modules:
                return _may_reach(f"{modules[value.id]}.{attr}")
        case ast.Call(func=ast.Attribute(attr="eval" | "query"), args=[_, *_]):
            # pandas runs such a text; torch's `eval()` takes none.
            return False
        case ast.keyword(arg="allow_pickle" | "trust_remote_code" | "weights_only"):
            return False
    return True
