"""The command ``noisydask``: what becomes of its errors, and of signals."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import noisydask
from noisydask.errors import NoisydaskError
from noisydask.interrupts import Interrupted, interruptible
from noisydask.lazily import Lazy
from noisydask.report.printing import printable, replace_what_cannot_be_printed
from noisydask.report.showing import err_console

if TYPE_CHECKING:
    from noisydask.cli import commands
else:
    commands = Lazy("noisydask.cli.commands")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of ours are one line and an exit status, tracebacks are for bugs."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:  # is answered without importing any command
        print(f"noisydask {noisydask.__version__}")
        return 0
    replace_what_cannot_be_printed()
    try:
        with interruptible():
            commands.app(args=arguments)
    except NoisydaskError as error:
        err_console.print(
            printable(f"error: {error.for_command()}"), style="red", highlight=False, soft_wrap=True
        )
        return error.exit_status
    except Interrupted as error:
        err_console.print(
            f"{error}; run it again: it goes on from what is stored", style="red", soft_wrap=True
        )
        return error.exit_status
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
