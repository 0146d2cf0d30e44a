"""What a name in a configuration would make a loader import: judged by the name alone.

A loader that is told `_target_: os.system` imports `os` and calls `system`. Three answers:
*dangerous* is known to reach out of the model, *known* is a class of a framework that only
builds a part of a model, and all else is *unknown*, because nobody looked at it.
"""

from __future__ import annotations

import re
from enum import Enum

from keepstone.scan.text.words import words


class Standing(Enum):
    """What is known of a name that a loader would import."""

    DANGEROUS = "dangerous"
    KNOWN = "known"
    UNKNOWN = "unknown"


# `os.system`, `os:system`, `package.module.Class.method`.
DOTTED = re.compile(r"[A-Za-z_]\w*(?:[.:][A-Za-z_]\w*)+\Z")
_CLASS = re.compile(r"[A-Z]\w*\Z")

# Whoever builds an object of these modules, or calls anything in them, reaches the machine.
_MODULES = frozenset(
    words(
        """
    os posix nt ntpath posixpath subprocess _posixsubprocess sys shutil socket _socket
    socketserver ctypes _ctypes cffi importlib imp runpy pty code codeop webbrowser pickle
    _pickle cPickle dill cloudpickle marshal shelve dbm types gc inspect pip ensurepip venv
    commands popen2 pdb bdb timeit cProfile profile trace tempfile pathlib glob fileinput
    linecache multiprocessing _winapi winreg msvcrt signal resource site sysconfig zipimport
    pkgutil pydoc doctest asyncio threading _thread concurrent sched atexit builtins __builtin__
    __builtins__ __main__ requests urllib urllib2 urllib3 http httplib ftplib smtplib telnetlib
    xmlrpc paramiko fabric invoke pexpect sh plumbum nturl2path antigravity idlelib lib2to3
    distutils setuptools pkg_resources platform jsonpickle IPython ipykernel jupyter code test
    py_compile compileall operator
    """
    )
)
# The types that a configuration may well ask of `builtins`.
_PLAIN = frozenset(
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in words(
        """
    bool bytearray bytes complex dict float frozenset int list object set slice str tuple
    """
    )
) | {"pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath", "pathlib.PurePosixPath"}

# Bare words that a loader looks up among the built-in functions.
_BARE = frozenset(
    words(
        """
    eval exec compile __import__ open input breakpoint getattr setattr
    """
    )
)

# Parts of frameworks that load, fetch or run what they are given.
_LOADERS = re.compile(
    r"""
    (?:^|[.:])(?:
        load | loads | unsafe_load | full_load | load_all | unsafe_load_all | load_library
      | load_model | load_module | load_url | load_state_dict_from_url | read_pickle | read_hdf
      | eval | exec | execfile | literal_exec | system | popen | Popen | check_output | spawn\w*
      | run_module | run_path | import_module | __import__ | import_string | safe_import
      | exec_command | execute | getoutput | getstatusoutput | startfile | memmap | DataSource
      | genfromtxt | loadtxt | fromfile | tofile | open_memmap | runstring | sympify | Lambda
      | PackageImporter | cpp_extension | f2py | py_func | numpy_function | load_op_library
      | PythonInterpreterTool | PythonREPL\w* | PythonREPLTool | ShellTool | BashProcess
      | LLMMathChain | PALChain | instantiate | get_method | get_object | get_class | call_method
      | load_learner | hubconf | _legacy_load | torch_load | unpickle\w* | Unpickler | FunctionType
      | CodeType | BuiltinFunctionType | ScriptEngineManager | ProcessBuilder | Runtime
    )(?:$|[.:])
    """,
    re.VERBOSE,
)

# Frameworks whose *classes* are parts of models. A function of theirs is unknown.
_FRAMEWORKS = frozenset(
    words(
        """
    torch torchvision torchaudio torchtext torchmetrics lightning pytorch_lightning
    lightning_fabric transformers diffusers tokenizers peft trl accelerate timm
    sentence_transformers datasets evaluate safetensors optimum keras tensorflow tf_keras
    keras_hub keras_nlp keras_cv sklearn numpy scipy pandas xgboost lightgbm catboost imblearn
    category_encoders statsmodels prophet mlflow nemo fairseq espnet speechbrain allennlp spacy
    thinc flair gensim nltk monai kornia albumentations ultralytics detectron2 mmcv mmengine
    mmdet mmseg mmcls mmpretrain ldm sgm flax optax jax haiku dgl torch_geometric botorch
    gpytorch pyro einops onnx onnxruntime skorch fastai skops sktime pmdarima river hydra
    omegaconf collections datetime decimal fractions uuid megatron apex deepspeed bitsandbytes
    pytorch_forecasting neuralforecast recbole open_clip clip segmentation_models_pytorch
    stable_baselines3 gymnasium gym ray langchain langchain_core langchain_community llama_index
    haystack
    """
    )
)


def standing(name: str) -> Standing:
    """Judge a name that a loader would import, written with dots or one colon."""
    plain = name.strip().replace(":", ".")
    if plain in _PLAIN:
        return Standing.KNOWN
    parts = plain.split(".")
    if parts[0] in _MODULES or plain in _BARE or _LOADERS.search(plain):
        return Standing.DANGEROUS
    if any(part in _MODULES - _AMBIGUOUS for part in parts[1:-1]):
        # `torch.os.system`: a module reached through another one that imported it.
        return Standing.DANGEROUS
    if any(part.startswith("__") for part in parts):
        return Standing.DANGEROUS
    known = parts[0] in _FRAMEWORKS and len(parts) > 1 and _CLASS.match(parts[-1])
    return Standing.KNOWN if known and "" not in parts else Standing.UNKNOWN


def is_framework(module: str) -> bool:
    """True where `module` is, or lies in, a framework known here and is no loader of files."""
    top = module.split(".", 1)[0]
    return top in _FRAMEWORKS and standing(f"{module}.X") is not Standing.DANGEROUS


def shadows(module: str) -> bool:
    """True where a file of this name, put first on the path, takes the place of a real module."""
    return module in _FRAMEWORKS or module in _MODULES - _COMMON


# Modules that people have of their own without meaning the other.
_COMMON = frozenset(("test", "sh", "code", "commands", "fabric"))
# Words that are folders of honest packages too (`transformers.utils`, `keras.ops.operator`).
_AMBIGUOUS = frozenset(
    words(
        """
    code test types trace profile platform resource signal site operator commands http requests
    sh glob tempfile pathlib inspect threading asyncio concurrent multiprocessing
    """
    )
)
