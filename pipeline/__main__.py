"""``python -m pipeline`` and ``docpipe``."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress

_INTERRUPTED = 130  # ``errors.ExitCode``, which may not be loaded


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Loading modules makes many objects that all stay: looking for garbage among them takes 0.02 s of each start.
    gc.set_threshold(20_000)
    try:
        from pipeline import cli  # not at the top: each worker process imports this module once more

        exit_code = cli.end()
    except KeyboardInterrupt:  # while modules are loaded
        exit_code = _INTERRUPTED
    with suppress(OSError):  # nobody reads any more
        sys.stdout.flush()
        sys.stderr.flush()
    atexit._run_exitfuncs()  # such as removing the folder where the worker processes' sockets lay
    os._exit(exit_code)  # all is closed and on disk; taking the modules apart would take another 0.2 s


if __name__ == "__main__":
    main()
