"""The allow-list: what ships is harmless by rule; a site's own list stays above the floor."""

from __future__ import annotations

import json
import pickle
import sys
from importlib import resources
from pathlib import Path

import pytest

from keepstone.core.finding import Finding, Outcome
from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.evidence.dsse import sign_envelope
from keepstone.identity.signing import SigningKey
from keepstone.scan.allowance import Allowance
from keepstone.scan.paths import scan_paths
from keepstone.scan.pickle.allowlist import Added, Entry, look_up
from keepstone.scan.pickle.arguments import CHECKS
from keepstone.scan.pickle.danger import why_dangerous
from keepstone.scan.pickle.extension import PAYLOAD_TYPE, read_extension, sign_extension
from keepstone.scan.report import to_json, to_text
from keepstone.scan.rules import verdict
from keepstone.scan.scanner import judge
from keepstone.scan.view import View

NOW = 1_800_000_000_000
KEY = SigningKey.generate()
KEYS = {KEY.verifying.key_id: KEY.verifying}


def found(data: bytes, *added: Added) -> list[Finding]:
    return list(judge(View("file", memoryview(data), Allowance(), judge, allowed=added)))


def rules(data: bytes, *added: Added) -> set[str]:
    return {item.rule for item in found(data, *added)}


# What ships -----------------------------------------------------------------------------------


def shipped() -> list[tuple[str, str, str]]:
    names = []
    for file in resources.files("keepstone.scan.pickle").joinpath("allowed").iterdir():
        for module, members in json.loads(file.read_text("utf-8"))["names"].items():
            names += [(module, name, words) for name, words in members.items()]
    return names


def test_every_word_and_check_of_the_lists_is_known() -> None:
    for module, name, words in shipped():
        entry = Entry.parse(words)
        assert look_up(module, name) == entry, (module, name)
        for check in (entry.call_check, entry.build_check):
            assert check is None or check in CHECKS


def test_what_is_called_though_dangerous_is_held_by_a_check() -> None:
    for module, name, words in shipped():
        # Those of `torch.jit._pickle` make lists of numbers and tensors out of lists.
        if why_dangerous(module, name) is None or module == "torch.jit._pickle":
            continue
        entry = Entry.parse(words)
        # Named by their frameworks' files, and called only as those call them.
        assert not entry.call or entry.call_check is not None, (module, name)


@pytest.mark.parametrize(
    "name",
    [
        *("builtins.eval", "builtins.exec", "builtins.__import__", "builtins.open", "os.system"),
        *("posix.system", "subprocess.Popen", "functools.partial", "functools.reduce"),
        *(
            "operator.attrgetter",
            "operator.methodcaller",
            "importlib.import_module",
            "runpy.run_path",
        ),
        *(
            "numpy.load",
            "numpy.fromfile",
            "torch.load",
            "torch.hub.load",
            "joblib.load",
            "dill.loads",
        ),
        *("pandas.read_pickle", "numpy.testing._private.utils.runstring", "ctypes.CDLL"),
        *("sklearn.datasets._base.load_files", "joblib.memory.Memory", "scipy.io.loadmat"),
        *("torch.fx.graph_module.reduce_graph_module", "xgboost.core.DMatrix", "xgboost.core._LIB"),
        *(
            "lightgbm.basic.Dataset",
            "sklearn.utils._testing.check_subprocess_call",
            "logging.config",
        ),
    ],
)
def test_nothing_that_reaches_out_ships(name: str) -> None:
    module, _, member = name.rpartition(".")
    assert look_up(module, member) is None


def test_a_reexport_is_another_name() -> None:
    assert look_up("sklearn.linear_model._logistic", "LogisticRegression") is not None
    # Exact pairs only: attributes of a name that is allowed are not.
    assert look_up("sklearn.linear_model._logistic", "LogisticRegression.fit") is None
    assert look_up("sklearn.linear_model._logistic", "np.load") is None
    assert look_up("../allowed/numpy", "ndarray") is None


# How each may be used -------------------------------------------------------------------------

_ODD_CALLS = {
    "a value that is called": b"cnumpy\nfloat64\n(K\x01tR.",
    "a class that is called": b"csklearn.linear_model._logistic\nLogisticRegression\n)R.",
    "memmap by NEWOBJ_EX": b"cnumpy\nmemmap\n(X\x01\x00\x00\x00xt}\x92.",
    "an array of another class": b"cnumpy.core.multiarray\n_reconstruct\n"
    b"(cuuid\nUUID\nK\x00\x85tR.",
    "getattr of a value": b"cbuiltins\ngetattr\n(NX\x09\x00\x00\x00__class__tR.",
    "getattr that is kept": b"cbuiltins\ngetattr\n.",
    "getattr to a dangerous name": b"cbuiltins\ngetattr\n"
    b"(cnumpy\nndarray\nX\x06\x00\x00\x00tofiletR.",
    "a name that is looked up": b"cnumpy.core\n_ufunc_reconstruct\n(X\x02\x00\x00\x00osX\x06\x00"
    b"\x00\x00systemtR.",
    "a base that is not plain": b"ccopyreg\n_reconstructor\n(cuuid\nUUID\ncuuid\nUUID\nNtR.",
    "a constructor of ours": b"cnumpy.random._pickle\n__randomstate_ctor\n(X\x07\x00\x00\x00MT19937"
    b"cnumpy.core\n_ufunc_reconstruct\ntR.",
    "a type of three": b"cbuiltins\ntype\n(X\x01\x00\x00\x00x)}tR.",
    "a state for a class": b"cuuid\nUUID\nN}X\x01\x00\x00\x00aK\x01s\x86b.",
    "a state that loaders call": b"cuuid\nUUID\n)\x81}X\x0c\x00\x00\x00__setstate__Nsb.",
    "an attribute that APPENDS calls": b"cuuid\nUUID\n)\x81}X\x06\x00\x00\x00extendNsb(K\x01e.",
    "a state of a constant": b"cnumpy\nfloat64\n}X\x01\x00\x00\x00aK\x01sb.",
    "appending to an object": b"cuuid\nUUID\n)\x81(K\x01e.",
    "items of an object": b"cuuid\nUUID\n)\x81(K\x01K\x02u.",
    "items that are attributes": b"csklearn.utils._bunch\nBunch\n)\x81"
    b"(X\x0c\x00\x00\x00__setstate__"
    b"cbuiltins\nlen\nu.",
    "a call of what a call gave": b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8tR(K\x01tR.",
    "code of scipy": b"cscipy.stats._continuous_distns\nnorm_gen\n)\x81}X\x13\x00\x00\x00"
    b"_parse_arg_templateX\x09\x00\x00\x00import ossb.",
    "a file that torch loads": b"ctorch.storage\n_load_from_bytes\n(ctorch\nfloat32\ntR.",
    "arguments that are a list": b"ccollections\nOrderedDict\n]R.",
    "a type of code": b"cdill._dill\n_load_type\n(X\x08\x00\x00\x00CodeTypetR.",
    "a call by dill": b"cdill._dill\n_create_array\n(cuuid\nUUID\n(K\x01tNNtR.",
}


@pytest.mark.parametrize("name", _ODD_CALLS)
def test_a_name_of_the_list_does_only_what_its_framework_does(name: str) -> None:
    data = b"\x80\x02" + _ODD_CALLS[name]
    assert verdict(found(data)) is Outcome.FLAGGED
    assert rules(data) & {"pickle.call", "pickle.import", "pickle.dangerous_import"}


def test_a_pickle_that_torch_would_load_out_of_bytes_is_judged() -> None:
    evil = pickle.dumps(pickle.PickleBuffer, 2)
    call = b"\x80\x04ctorch.storage\n_load_from_bytes\n(B%cX\x00\x00\x00tR."
    inner = b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."
    data = call.replace(b"%cX\x00\x00\x00", len(inner).to_bytes(4, "little") + inner)
    assert "pickle.dangerous_import" in rules(data)
    assert evil


# A site's own list ------------------------------------------------------------------------------


def document(names: object = None, **more: object) -> bytes:
    whole = {
        "schema": "keepstone.allowlist/v1",
        "name": "acme",
        "expires": "2099-01-01T00:00:00Z",
        "names": {"acme.models": {"Scorer": "new build"}} if names is None else names,
        **more,
    }
    return json.dumps(whole).encode()


SCORER = b"\x80\x02cacme.models\nScorer\n)\x81}X\x01\x00\x00\x00aK\x01sb."


def test_a_signed_list_adds_its_names_and_no_more() -> None:
    added = read_extension(sign_extension(document(), KEY).to_json(), KEYS, NOW)
    assert (added.source, added.key_id) == ("acme", KEY.verifying.key_id)
    assert rules(SCORER) == {"pickle.import"}
    assert rules(SCORER, added) == set()
    assert rules(SCORER.replace(b"Scorer", b"Others"), added) == {"pickle.import"}
    assert rules(SCORER.replace(b"\x81}", b"R}"), added) == {"pickle.call"}


def test_a_report_names_what_a_file_leaned_on(tmp_path: Path) -> None:
    added = read_extension(sign_extension(document(), KEY).to_json(), KEYS, NOW)
    (tmp_path / "a.pkl").write_bytes(SCORER)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([1]))
    report = scan_paths([tmp_path], allowed=(added,))
    assert report.outcome is Outcome.CLEAN
    written = to_json(report)
    assert written["files"][0]["allowed"] == ["acme.models.Scorer"]
    assert "allowed" not in written["files"][1]
    assert written["allowed"][0]["names"] == ["acme.models.Scorer"]
    assert "allowed by a list of the site: acme.models.Scorer" in to_text(report)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("builtins", "eval"), ("builtins", "getattr"), ("os", "system"), ("posix", "system")),
        *(("subprocess", "Popen"), ("functools", "partial"), ("numpy", "load"), ("ctypes", "CDLL")),
        *(("string", "Formatter"), ("_abc", "x"), ("cloudpickle.cloudpickle", "_make_function")),
        ("acme.models", "Scorer.__init__.__globals__"),
    ],
)
def test_the_floor_holds_whoever_signs(module: str, name: str) -> None:
    names = {module: {name: "call"}}
    with pytest.raises(InputError) as caught:
        sign_extension(document(names), KEY)
    assert caught.value.code == "allowlist.dangerous"
    envelope = sign_envelope(PAYLOAD_TYPE, document(names), KEY)
    with pytest.raises(InputError):
        read_extension(envelope.to_json(), KEYS, NOW)


@pytest.mark.parametrize(
    "data",
    [
        document({"acme": {"x": "call:plain"}}),
        document({"acme": {"x": "anything"}}),
        document({"acme": {"x": ""}}),
        document({"acme": {"x": 1}}),
        document({"acme": {"x y": "new"}}),
        document({"acme": []}),
        document([]),
        document(extra=1),
        document(schema="keepstone.allowlist/v2"),
        document(expires="soon"),
        b"no json",
    ],
)
def test_a_list_that_is_not_whole_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        sign_extension(data, KEY)


def test_only_a_known_key_and_a_living_list_count() -> None:
    signed = sign_extension(document(), KEY).to_json()
    with pytest.raises(VerificationError):
        read_extension(signed, {}, NOW)
    other = SigningKey.generate()
    with pytest.raises(VerificationError):
        read_extension(signed, {other.verifying.key_id: other.verifying}, NOW)
    with pytest.raises(KeepstoneError):
        read_extension(signed.replace(b"sig", b"gis"), KEYS, NOW)
    old = sign_extension(document(expires="2020-01-01T00:00:00Z"), KEY).to_json()
    with pytest.raises(VerificationError) as caught:
        read_extension(old, KEYS, NOW)
    assert caught.value.code == "allowlist.expired"
    typed = sign_envelope("text/plain", document(), KEY)
    with pytest.raises(InputError):
        read_extension(typed.to_json(), KEYS, NOW)


def test_the_command_line_signs_and_uses_a_list(tmp_path: Path) -> None:
    from keepstone.cli.main import run

    (tmp_path / "key.pem").touch(mode=0o600)
    (tmp_path / "key.pem").write_bytes(KEY.to_pem(None))
    (tmp_path / "pub.pem").write_bytes(KEY.verifying.pem)
    (tmp_path / "names.json").write_bytes(document())
    (tmp_path / "model.pkl").write_bytes(SCORER)
    names, model, public = (str(tmp_path / n) for n in ("names.json", "model.pkl", "pub.pem"))
    assert run(["allow", names, "--private-key", str(tmp_path / "key.pem")]) == 0
    assert run(["scan", model]) == 1
    assert run(["scan", model, "--allow", f"{names}.dsse", "--allow-key", public]) == 0
    assert run(["scan", model, "--allow", f"{names}.dsse"]) == 1
    assert run(["scan", model, "--allow", f"{names}.none", "--allow-key", public]) == 2
    assert run(["allow", f"{names}.none", "--private-key", str(tmp_path / "key.pem")]) == 2


def test_the_standard_library_is_not_a_sites_to_change() -> None:
    assert "string" in sys.stdlib_module_names
