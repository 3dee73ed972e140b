"""What tests have the worker processes of a host do; named by ``Read``, and imported there."""

from __future__ import annotations

import os
import signal

from pipeline.pdf import PdfError, Source, SourceChangedError


def told(source: Source, *words: str) -> tuple[str, ...]:
    """What it was called with."""
    return source.path, *words


def crash(source: Source) -> None:
    """As a parser that a file breaks."""
    os.kill(os.getpid(), signal.SIGSEGV)


def locked(source: Source) -> None:
    """As for a file with a password."""
    raise PdfError("a password stands in the way", encrypted=True)


def changed(source: Source) -> None:
    """As for a file that is another by now."""
    raise SourceChangedError("it is another")


def missing(source: Source) -> None:
    """As for a file that is gone."""
    raise FileNotFoundError(2, "No such file or directory", source.path)
