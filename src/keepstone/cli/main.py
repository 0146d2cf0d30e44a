"""The entry point: the list of commands, and the one place where errors become exit statuses."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from keepstone import __version__
from keepstone.cli.lazy import Lazy
from keepstone.cli.output import own_stdout, report_error
from keepstone.errors import Exit, KeepstoneError, OperationalError

# In the order in which a newcomer meets them; the value is the file of this package.
COMMANDS = {
    "up": "up",
    "init": "init",
    "scan": "scan",
    "allow": "allow",
    "vulndb": "vulndb",
    "waive": "waive",
    "sign": "sign",
    "verify": "verify",
    "attest": "attest",
    "approve": "approve",
    "bom": "bom",
    "attack": "attack",
    "harden": "harden",
    "fingerprint": "fingerprint",
    "revoke": "revoke",
    "reinstate": "reinstate",
    "push": "push",
    "pull": "pull",
    "list": "list",
    "show": "show",
    "diff": "diff",
    "alias": "alias",
    "promote": "promote",
    "deprecate": "deprecate",
    "registry": "registry",
    "policy": "policy",
    "signers": "signers",
    "keys": "keys",
    "token": "token",
    "trust": "trust",
    "ledger": "ledger",
    "mlflow": "mlflow",
    "vault": "vault",
    "doctor": "doctor",
    "backup": "backup",
    "restore": "restore",
}


@click.group(cls=Lazy, files=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keepstone")
def cli() -> None:
    """Serve a model only when signed evidence satisfies the policy, and prove it later.

    Exit status: 0 ok; 1 findings, denied or verification failed; 2 usage or input; 3 could not
    decide.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    _heed_sigterm()
    own_stdout()
    status = run(arguments)
    # What a library prints as the process ends is no result.
    sys.stdout = sys.stderr
    sys.exit(status)


class Terminated(BaseException):
    """SIGTERM came: whatever is under way cleans up, as it does after Ctrl-C."""


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        outcome: Any = cli.main(args=arguments, prog_name="keepstone", standalone_mode=False)
    except KeepstoneError as error:
        report_error(error)
        return int(error.exit_code)
    except click.ClickException as error:
        error.show()
        return int(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return 128 + signal.SIGINT
    except Terminated:
        click.echo("Terminated.", err=True)
        return 128 + signal.SIGTERM
    except (Exception, SystemExit) as error:  # the process edge: a fault of ours is never a yes
        # Code of the caller's that leaves with a yes says it of nothing.
        if os.environ.get("KEEPSTONE_TRACEBACK") or (
            isinstance(error, SystemExit) and error.code not in (0, None)
        ):
            raise
        report_error(
            OperationalError(
                "internal.error",
                f"Keepstone failed: {type(error).__name__}: {error}",
                "Run again with KEEPSTONE_TRACEBACK=1 and report what it prints.",
            )
        )
        return int(Exit.UNDECIDED)
    return int(outcome) if isinstance(outcome, int) else int(Exit.OK)


def _heed_sigterm() -> None:
    """Unless somebody does already, or had it ignored; what serves has a way of its own."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated
