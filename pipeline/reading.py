"""Documents read where they lie near: a function that opens one is called in a worker process there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.pdf import Passwords, Source
from pipeline.sandbox import Limits, Sandbox


def set_up(sandbox: Sandbox, limits: Limits, passwords: Passwords) -> None:
    """Have the worker processes keep to the limits, and try the passwords."""
    sandbox.use(limits, ("pipeline.splitter:use", passwords) if passwords.candidates else None)


class Reader(Protocol):
    """Calls functions that open documents."""

    @property
    def processes(self) -> int:
        """How many calls are at work at once; more wait for their turn."""

    async def read(self, source: Source, function: str, *args: object) -> Any:
        """``function(source, *args)`` in a worker process; the function is named ``"package.module:name"``.

        Raises:
            SandboxError: no result, with the reason.
            InterruptedError: the worker was ended from outside.
            SettingsError: no worker can be started.
            Exception: what the function itself raised.
        """


@dataclass(frozen=True, slots=True)
class LocalReader:
    """Reads in the sandbox of this machine."""

    sandbox: Sandbox

    @property
    def processes(self) -> int:
        """As many as the sandbox has."""
        return self.sandbox.processes

    async def read(self, source: Source, function: str, *args: object) -> Any:
        """See ``Reader``; the size of the file scales the limits of the call."""
        return await self.sandbox.call(source.size_bytes, function, source, *args)
