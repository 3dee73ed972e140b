"""What tests have hosts do, imported there: functions named by ``Read``, and an actor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from pipeline.engines.ray_host import RayHost
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


class ImpatientRayHost(RayHost):
    """A host that does not wait long for a driver."""

    def __init__(self, ledger: str, spool: str | None, end_actor: Callable[[], None], processors: int) -> None:
        super().__init__(ledger, spool, end_actor, processors, without_driver_s=2.0)
