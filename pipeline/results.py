"""Outcomes kept in files until the ledger has them: what a host has paid for outlives the driver, and the host."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.domain import Answer, Exchange, Failure, FailureClass, Outcome, Usage

_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Results:
    """A folder of outcomes by the keys of their attempts, which are plain file names. Several hosts may share it."""

    folder: Path

    def put(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome; it is on the disk when this returns.

        Raises:
            OSError: it is not.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        waiting = self.folder / f".{key}.{os.getpid()}"
        with waiting.open("w", encoding="utf-8") as file:
            json.dump(_plain(outcome), file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(self.folder / (key + _SUFFIX))
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # its name too
        finally:
            os.close(descriptor)

    def get(self, key: str) -> Outcome | None:
        """The outcome kept for an attempt; None if there is none that can be read."""
        try:
            return _outcome(json.loads((self.folder / (key + _SUFFIX)).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keys(self) -> frozenset[str]:
        """The attempts whose outcomes are kept."""
        with suppress(OSError):
            return frozenset(file.stem for file in self.folder.iterdir() if file.suffix == _SUFFIX)
        return frozenset()

    def drop(self, keys: Iterable[str]) -> None:
        """Keep these no longer; the ledger has them. What cannot be removed stays, and is asked for by nobody."""
        for key in keys:
            with suppress(OSError):
                (self.folder / (key + _SUFFIX)).unlink()


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {"answered": isinstance(outcome, Answer), **asdict(outcome)}


def _outcome(plain: dict[str, Any]) -> Outcome:
    answered, wire = plain.pop("answered"), plain.pop("exchange")
    usage = wire.pop("usage")
    exchange = Exchange(**wire, usage=usage and Usage(**usage))
    if answered:
        return Answer(**plain, exchange=exchange)
    return Failure(FailureClass(plain.pop("kind")), **plain, exchange=exchange)
