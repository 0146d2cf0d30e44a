"""Gadgets of the standard library: everything that starts, runs, writes, connects or breaks.

Few of them are on any list. Each row is one call; what it needs is in it or in the folder where
the witness stands. Source: the modules' own documentation, and the events of `sys.audit`.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.corpus.case import CANARY, CODE, COMMAND, EXPRESSION, Case, fail
from bench.corpus.opcodes import (
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    NONE,
    TRUE,
    attribute,
    call,
    called_with,
    listed,
    mapped,
    method,
    module,
    name,
    number,
    octets,
    pickled,
    several,
    stacked,
    text,
)

_SH = text("/bin/sh")
_ARGV = listed(_SH, text("-c"), text(COMMAND))
_LOCAL = text("127.0.0.1")
_MADE = text("made-by-a-pickle")
_SYSTEM = name("os", "system")
_EVAL = name("builtins", "eval")


def _processes() -> dict[str, bytes]:
    shell = text(COMMAND)
    return {
        "os.popen": call(name("os", "popen"), shell),
        "os.execv": call(name("os", "execv"), _SH, _ARGV),
        "os.execlp": call(name("os", "execlp"), _SH, _SH, text("-c"), shell),
        "os.spawnv": call(name("os", "spawnv"), number(0), _SH, _ARGV),
        "os.spawnlp": call(name("os", "spawnlp"), number(0), _SH, _SH, text("-c"), shell),
        "os.posix_spawn": call(name("os", "posix_spawn"), _SH, _ARGV, EMPTY_DICT),
        "posix.posix_spawnp": call(name("posix", "posix_spawnp"), _SH, _ARGV, EMPTY_DICT),
        "posix.fork": call(name("posix", "fork")),
        "os.forkpty": call(name("os", "forkpty")),
        "subprocess.Popen": call(name("subprocess", "Popen"), _ARGV),
        "subprocess.run": call(name("subprocess", "run"), _ARGV),
        "subprocess.call": call(name("subprocess", "call"), _ARGV),
        "subprocess.check_call": call(name("subprocess", "check_call"), _ARGV),
        "subprocess.check_output": call(name("subprocess", "check_output"), _ARGV),
        "subprocess.getoutput": call(name("subprocess", "getoutput"), shell),
        "subprocess.getstatusoutput": call(name("subprocess", "getstatusoutput"), shell),
        "pty.spawn": call(name("pty", "spawn"), _ARGV),
        "commands.nt": call(name("nt", "system"), shell),
        "asyncio.subprocess": call(
            name("asyncio", "run"), call(name("asyncio", "create_subprocess_shell"), shell)
        ),
        "asyncio.subprocess_exec": call(
            name("asyncio", "run"),
            call(stacked("asyncio.subprocess", "create_subprocess_exec"), _SH, text("-c"), shell),
        ),
        "imaplib.IMAP4_stream": call(name("imaplib", "IMAP4_stream"), shell),
        "multiprocessing.spawnv": call(
            name("multiprocessing.util", "spawnv_passfds"), octets(b"/bin/sh"), _ARGV, EMPTY_LIST
        ),
        "multiprocessing.process": method(
            called_with(name("multiprocessing", "Process"), target=_SYSTEM, args=several(shell)),
            "start",
        ),
        "distutils.spawn": call(name("distutils.spawn", "spawn"), _ARGV),
        "setuptools.spawn": call(name("setuptools._distutils.spawn", "spawn"), _ARGV),
        "webbrowser.open": call(name("webbrowser", "open"), text("file:///dev/null")),
        "webbrowser.generic": method(
            call(name("webbrowser", "GenericBrowser"), text("true")), "open", text("x")
        ),
        "pydoc.pipepager": call(name("pydoc", "pipepager"), text("x"), shell),
        "pydoc.tempfilepager": call(name("pydoc", "tempfilepager"), text("x"), shell),
        "mailcap.findmatch": call(
            name("mailcap", "findmatch"),
            mapped(("a/b", listed(mapped(("view", text("true")), ("test", shell))))),
            text("a/b"),
        ),
        "pipes.Template": method(
            call(stacked("pipes", "Template")) + b"q\x010h\x01", "open", _MADE, text("w")
        ),
        "ctypes.util.find_library": call(name("ctypes.util", "find_library"), text("no-such")),
        "uuid._get_command_stdout": call(
            name("uuid", "_get_command_stdout"), text("true"), text("-x")
        ),
        "platform._syscmd_ver": call(name("platform", "_syscmd_file"), _SH),
        "osx_support._read_output": call(name("_osx_support", "_read_output"), shell),
        "ensurepip._run_pip": call(name("ensurepip", "_run_pip"), listed(text("--version"))),
        "venv.create": call(name("venv", "create"), _MADE),
        "posixsubprocess.fork_exec": call(
            name("_posixsubprocess", "fork_exec"),
            listed(octets(b"/bin/sh"), octets(b"-c"), octets(COMMAND.encode())),
            listed(octets(b"/bin/sh")),
            TRUE,
            EMPTY_TUPLE,
            NONE,
            NONE,
            *[number(-1)] * 7,
            number(3),
            b"\x89",
            b"\x89",
            number(-1),
            NONE,
            NONE,
            NONE,
            number(-1),
            NONE,
            b"\x89",
        ),
        "test.script_helper": call(
            name("test.support.script_helper", "assert_python_ok"), text("-c"), text(CODE)
        ),
        "cgi.test_environment": call(name("cgitb", "enable")) + b"0" + call(_SYSTEM, shell),
    }


def _evaluators() -> dict[str, bytes]:
    source, expression = text(CODE), text(EXPRESSION)
    timer = call(name("timeit", "Timer"), source)
    return {
        "builtins.eval": call(_EVAL, expression),
        "builtins.exec": call(name("builtins", "exec"), source),
        "builtins.compile": call(name("builtins", "compile"), source, text("x"), text("exec")),
        "builtins.input": call(name("builtins", "input")),
        "builtins.breakpoint": call(name("builtins", "breakpoint")),
        "builtins.max_key": called_with(
            name("builtins", "max"), listed(expression, text("1")), key=_EVAL
        ),
        "builtins.sorted_key": called_with(
            name("builtins", "sorted"), listed(expression), key=_EVAL
        ),
        "builtins.import": call(name("builtins", "__import__"), text("antigravity")),
        "timeit.timeit": call(name("timeit", "timeit"), source),
        "timeit.main": call(name("timeit", "main"), listed(text("-n1"), text("-r1"), source)),
        "timeit.Timer": method(timer, "timeit", number(1)),
        "timeit.repeat": call(
            name("timeit", "repeat"),
            text("pass"),
            source,
            name("time", "time"),
            number(1),
            number(1),
        ),
        "cProfile.run": call(name("cProfile", "run"), source),
        "cProfile.runctx": call(name("cProfile", "runctx"), source, EMPTY_DICT, EMPTY_DICT),
        "profile.run": call(name("profile", "run"), source),
        "profile.Profile": method(call(name("profile", "Profile")), "run", source),
        "trace.Trace": method(call(name("trace", "Trace")), "run", source),
        "pdb.run": call(name("pdb", "run"), source),
        "pdb.runeval": call(name("pdb", "runeval"), expression),
        "bdb.Bdb": method(call(name("bdb", "Bdb")), "run", source),
        "code.runsource": method(
            call(name("code", "InteractiveInterpreter")), "runsource", expression
        ),
        "code.runcode": method(
            call(name("code", "InteractiveInterpreter")),
            "runcode",
            call(name("builtins", "compile"), source, text("x"), text("exec")),
        ),
        "code.push": method(call(name("code", "InteractiveConsole")), "push", expression),
        "codeop.compile_command": call(name("codeop", "compile_command"), expression),
        "doctest.run": call(
            name("doctest", "run_docstring_examples"), text(f">>> {EXPRESSION}\n"), EMPTY_DICT
        ),
        "doctest.debug_script": call(name("doctest", "debug_script"), source, TRUE),
        "runpy.run_path": call(name("runpy", "run_path"), text(CANARY)),
        "runpy.run_code": call(name("runpy", "_run_code"), source, EMPTY_DICT),
        "runpy.run_module": call(name("runpy", "run_module"), text("antigravity")),
        "importlib.import_module": module("antigravity"),
        "importlib.gcd_import": call(name("importlib._bootstrap", "_gcd_import"), text("this"))
        + b"0"
        + module("antigravity"),
        "importlib.source_loader": method(
            call(name("importlib.machinery", "SourceFileLoader"), text("x"), text(CANARY)),
            "load_module",
        ),
        "importlib.sourceless": method(
            call(name("importlib.machinery", "SourcelessFileLoader"), text("x"), text(CANARY)),
            "get_code",
            text("x"),
        ),
        "importlib.extension": method(
            call(name("importlib.machinery", "ExtensionFileLoader"), text("x"), text(CANARY)),
            "create_module",
            called_with(
                name("importlib.machinery", "ModuleSpec"),
                text("x"),
                NONE,
                origin=text(CANARY),
            ),
        ),
        "imp.load_source": call(name("imp", "load_source"), text("x"), text(CANARY)),
        "zipimport.zipimporter": call(name("zipimport", "zipimporter"), text(CANARY)),
        "pkgutil.get_loader": call(name("pkgutil", "resolve_name"), text("antigravity")),
        "site.execfile": call(name("site", "addpackage"), text("."), text(CANARY), NONE),
        "idlelib.calltip": call(name("idlelib.calltip", "get_entity"), expression),
        "idlelib.autocomplete": method(
            call(name("idlelib.autocomplete", "AutoComplete")), "get_entity", expression
        ),
        "idlelib.executive": method(
            call(stacked("idlelib.run", "Executive.__new__"), stacked("idlelib.run", "Executive"))
            + mapped(("locals", EMPTY_DICT), ("interp", NONE))
            + b"b",
            "runcode",
            call(name("builtins", "compile"), source, text("x"), text("exec")),
        ),
        "typing.ForwardRef": method(
            call(name("typing", "ForwardRef"), expression),
            "_evaluate",
            EMPTY_DICT,
            EMPTY_DICT,
            call(name("builtins", "frozenset")),
        ),
        "typing.get_type_hints": call(
            name("typing", "get_type_hints"),
            call(name("types", "SimpleNamespace"))
            + mapped(("__annotations__", mapped(("x", expression))))
            + b"b",
        ),
        "dataclasses.create_fn": call(
            name("dataclasses", "_create_fn"), text("f"), EMPTY_LIST, listed(text("pass"))
        )
        + b"0"
        + call(
            name("dataclasses", "_create_fn"),
            text("f"),
            listed(text(f"x={EXPRESSION}")),
            listed(text("pass")),
        ),
        "collections.namedtuple": call(_EVAL, expression),
        "xxsubinterpreters": call(
            name("_xxsubinterpreters", "run_string"),
            call(name("_xxsubinterpreters", "create")),
            source,
        ),
        "logging.dictConfig": call(
            name("logging.config", "dictConfig"),
            mapped(
                ("version", number(1)),
                (
                    "formatters",
                    mapped(("x", mapped(("()", text("os.system")), ("command", text(COMMAND))))),
                ),
            ),
        ),
        "unittest.loadTests": method(
            call(name("unittest", "TestLoader")), "loadTestsFromName", text("antigravity")
        ),
        "threading.Thread": method(
            called_with(name("threading", "Thread"), target=_SYSTEM, args=several(text(COMMAND))),
            "run",
        ),
        "threading.Timer": method(
            call(name("threading", "Timer"), number(0), _SYSTEM, listed(text(COMMAND))), "run"
        ),
        "atexit.register": call(name("atexit", "register"), _SYSTEM, text(COMMAND)),
        "weakref.finalize": method(
            call(name("weakref", "finalize"), name("threading", "Thread"), _SYSTEM, text(COMMAND)),
            "__call__",
        ),
        "concurrent.futures": method(
            call(
                name("concurrent.futures.thread", "_WorkItem"),
                call(name("concurrent.futures", "Future")),
                _SYSTEM,
                several(text(COMMAND)),
                EMPTY_DICT,
            ),
            "run",
        ),
        "contextlib.ExitStack": _exit_stack(),
        "sched.scheduler": _scheduler(),
        "asyncio.to_thread": call(
            name("asyncio", "run"), call(name("asyncio", "to_thread"), _SYSTEM, text(COMMAND))
        ),
        "contextvars.Context": method(
            call(name("contextvars", "Context")), "run", _SYSTEM, text(COMMAND)
        ),
        "sys.settrace": call(name("sys", "settrace"), _SYSTEM),
        "sys.setprofile": call(name("sys", "setprofile"), _SYSTEM),
        "signal.signal": call(name("signal", "signal"), number(10), _SYSTEM),
        "ctypes.CDLL": call(
            attribute(call(name("ctypes", "CDLL"), NONE), "system"), octets(COMMAND.encode())
        ),
        "ctypes.PyDLL": call(name("ctypes", "PyDLL"), text(CANARY)),
        "ctypes.string_at": call(name("ctypes", "string_at"), number(1), number(1)),
        "ctypes._dlopen": call(name("_ctypes", "dlopen"), text(CANARY), number(2)),
        "sqlite3.extension": method(
            call(name("sqlite3", "connect"), text(":memory:")), "enable_load_extension", TRUE
        ),
    }


def _exit_stack() -> bytes:
    stack = call(name("contextlib", "ExitStack")) + b"q\x63"
    return (
        stack
        + b"0"
        + method(b"h\x63", "callback", _SYSTEM, text(COMMAND))
        + b"0"
        + method(b"h\x63", "close")
    )


def _scheduler() -> bytes:
    made = call(name("sched", "scheduler")) + b"q\x62"
    entered = method(b"h\x62", "enter", number(0), number(1), _SYSTEM, several(text(COMMAND)))
    return made + b"0" + entered + b"0" + method(b"h\x62", "run")


def _files() -> dict[str, bytes]:
    write = text("w")
    return {
        "builtins.open": call(name("builtins", "open"), _MADE, write),
        "io.open": call(name("io", "open"), _MADE, write),
        "io.FileIO": call(name("io", "FileIO"), _MADE, write),
        "os.open": call(name("os", "open"), _MADE, number(0o101)),
        "codecs.open": call(name("codecs", "open"), _MADE, write),
        "gzip.open": call(name("gzip", "open"), _MADE, text("wb")),
        "bz2.BZ2File": call(name("bz2", "BZ2File"), _MADE, text("wb")),
        "lzma.LZMAFile": call(name("lzma", "LZMAFile"), _MADE, text("wb")),
        "tarfile.open": call(name("tarfile", "open"), _MADE, write),
        "zipfile.ZipFile": call(name("zipfile", "ZipFile"), _MADE, write),
        "wave.open": call(name("wave", "open"), _MADE, text("wb")),
        "pathlib.write_text": method(call(name("pathlib", "Path"), _MADE), "write_text", text("x")),
        "pathlib.touch": call(
            stacked("pathlib", "Path.touch"), call(name("pathlib", "PosixPath"), _MADE)
        ),
        "pathlib.unlink": method(call(name("pathlib", "Path"), text(CANARY)), "unlink"),
        "logging.FileHandler": call(name("logging", "FileHandler"), _MADE),
        "tempfile.mkstemp": call(name("tempfile", "mkstemp")),
        "tempfile.mkdtemp": call(name("tempfile", "mkdtemp")),
        "os.remove": call(name("os", "remove"), text(CANARY)),
        "os.rename": call(name("os", "rename"), text(CANARY), _MADE),
        "os.replace": call(name("os", "replace"), text(CANARY), _MADE),
        "os.mkdir": call(name("os", "mkdir"), _MADE),
        "os.makedirs": call(name("os", "makedirs"), _MADE),
        "os.symlink": call(name("os", "symlink"), text("/dev/null"), _MADE),
        "os.link": call(name("os", "link"), text(CANARY), _MADE),
        "os.chmod": call(name("os", "chmod"), text(CANARY), number(0o777)),
        "os.truncate": call(name("os", "truncate"), text(CANARY), number(0)),
        "os.putenv": call(name("os", "putenv"), text("CORPUS_X"), text("1")),
        "os.environ": call(stacked("os", "environ.__setitem__"), text("CORPUS_X"), text("1")),
        "os.chdir": call(name("os", "chdir"), text("/")),
        "shutil.rmtree": call(name("shutil", "rmtree"), _MADE),
        "shutil.copyfile": call(name("shutil", "copyfile"), text(CANARY), _MADE),
        "shutil.move": call(name("shutil", "move"), text(CANARY), _MADE),
        "shutil.make_archive": call(name("shutil", "make_archive"), _MADE, text("zip"), text(".")),
        "shutil.unpack_archive": call(
            name("shutil", "unpack_archive"), text(CANARY), text("."), text("zip")
        ),
        "distutils.write_file": call(
            name("distutils.file_util", "write_file"), _MADE, listed(text("x"))
        ),
        "linecache.getlines": call(name("linecache", "getlines"), text(CANARY)),
        "fileinput.input": call(
            name("builtins", "list"), call(name("fileinput", "input"), text(CANARY))
        ),
        "tokenize.open": call(name("tokenize", "open"), text(CANARY)),
        "pkgutil.read": call(name("builtins", "open"), text(CANARY)),
        "xml.etree.parse": call(name("xml.etree.ElementTree", "parse"), text(CANARY)),
        "sqlite3.connect": call(name("sqlite3", "connect"), _MADE),
        "dbm.open": call(name("dbm", "open"), _MADE, text("c")),
        "py_compile.compile": call(name("py_compile", "compile"), text(CANARY), _MADE),
        "zipapp.create_archive": call(
            name("zipapp", "create_archive"), text("."), _MADE, NONE, text("a:b")
        ),
        "argparse.FileType": call(call(name("argparse", "FileType"), write), _MADE),
        "configparser.read": method(
            call(name("configparser", "ConfigParser")), "read", text(CANARY)
        ),
        "readline.write": call(name("readline", "write_history_file"), _MADE),
        "mmap.memory": call(
            name("resource", "setrlimit"), number(7), several(number(3), number(3))
        ),
    }


def _connections() -> dict[str, bytes]:
    port = number(9)
    return {
        "socket.create_connection": call(
            name("socket", "create_connection"), several(_LOCAL, port)
        ),
        "socket.connect": method(call(name("socket", "socket")), "connect", several(_LOCAL, port)),
        "socket.getaddrinfo": call(name("socket", "getaddrinfo"), text("localhost"), port),
        "socket.gethostbyname": call(name("_socket", "gethostbyname"), text("localhost")),
        "urllib.urlopen": call(name("urllib.request", "urlopen"), text("http://127.0.0.1:9/")),
        "urllib.urlretrieve": call(
            name("urllib.request", "urlretrieve"), text("http://127.0.0.1:9/"), _MADE
        ),
        "http.client": method(
            call(name("http.client", "HTTPConnection"), _LOCAL, port),
            "request",
            text("GET"),
            text("/"),
        ),
        "smtplib.SMTP": call(name("smtplib", "SMTP"), _LOCAL, port),
        "ftplib.FTP": call(name("ftplib", "FTP"), _LOCAL),
        "poplib.POP3": call(name("poplib", "POP3"), _LOCAL, port),
        "telnetlib.Telnet": call(name("telnetlib", "Telnet"), _LOCAL, port),
        "nntplib.NNTP": call(name("nntplib", "NNTP"), _LOCAL, port),
        "imaplib.IMAP4": call(name("imaplib", "IMAP4"), _LOCAL, port),
        "ssl.get_server_certificate": call(
            name("ssl", "get_server_certificate"), several(_LOCAL, port)
        ),
        "xmlrpc.ServerProxy": call(
            attribute(call(name("xmlrpc.client", "ServerProxy"), text("http://127.0.0.1:9/")), "x")
        ),
        "socketserver.TCPServer": call(
            name("socketserver", "TCPServer"), several(_LOCAL, number(0)), NONE
        ),
        "http.server": call(name("http.server", "HTTPServer"), several(_LOCAL, number(0)), NONE),
        "logging.SocketHandler": call(
            stacked("logging.handlers", "SocketHandler.createSocket"),
            call(name("logging.handlers", "SocketHandler"), _LOCAL, port),
        ),
        "logging.SysLogHandler": call(
            name("logging.handlers", "SysLogHandler"), several(_LOCAL, port)
        ),
        "multiprocessing.Client": call(
            name("multiprocessing.connection", "Client"), several(_LOCAL, port)
        ),
        "asyncio.open_connection": call(
            name("asyncio", "run"), call(name("asyncio", "open_connection"), _LOCAL, port)
        ),
        "requests.get": call(name("requests", "get"), text("http://127.0.0.1:9/")),
        "httpx.get": call(name("httpx", "get"), text("http://127.0.0.1:9/")),
    }


def _denials() -> dict[str, bytes]:
    big = number(1 << 30)
    return {
        "os._exit": call(name("os", "_exit"), number(7)),
        "os.abort": call(name("os", "abort")),
        "os.kill": call(name("os", "kill"), number(0), number(9)),
        "sys.exit": call(name("sys", "exit"), number(7)),
        "faulthandler.sigsegv": call(name("faulthandler", "_sigsegv")),
        "time.sleep": call(name("time", "sleep"), number(1 << 20)),
        "builtins.bytearray": call(name("builtins", "bytearray"), b"\x8a\x06" + bytes(5) + b"\x10"),
        "operator.mul": call(name("operator", "mul"), text("aaaaaaaa"), big),
        "itertools.forever": call(
            name("collections", "deque"), call(name("itertools", "repeat"), NONE), number(1)
        ),
        "re.compile": call(name("re", "match"), text("(a+)+$"), text("a" * 60 + "b")),
        "builtins.pow": call(name("builtins", "pow"), number(7), big),
    }


_GROUPS = {
    "Starts a program or a process": _processes,
    "Runs code of the file's choice": _evaluators,
    "Touches files that are not its own": _files,
    "Opens a connection": _connections,
    "Ends the process, or keeps it busy": _denials,
}


def _gadgets(seed: int) -> Iterator[Case]:
    for what, group in _GROUPS.items():
        for slug, body in group().items():
            yield fail(f"{slug}.pkl", pickled(body), f"{what}, by {slug}.")


PARTS = (_gadgets,)
