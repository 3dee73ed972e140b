"""``python -m pipeline`` and ``docpipe``."""

from __future__ import annotations

import sys

from pipeline import cli


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(cli.end())


if __name__ == "__main__":
    main()
