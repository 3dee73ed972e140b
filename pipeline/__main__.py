"""The one place where errors become exit codes."""

from __future__ import annotations

import os
import sys

import click

from pipeline.cli import main as commands
from pipeline.errors import ExitCode, PipelineError
from pipeline.text import printable


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        result = commands.main(prog_name="docpipe", standalone_mode=False)
    except click.ClickException as error:  # wrong usage
        error.show()
        return ExitCode.USAGE
    except PipelineError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {printable(line)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was recorded stays recorded, the next run goes on", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has gone away, as in `docpipe status x | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BUG
    return result if isinstance(result, int) else ExitCode.COMPLETE


if __name__ == "__main__":
    main()
