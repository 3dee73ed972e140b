"""Documents read where they lie near: a function that opens one is called in a worker process there.

What lies behind a URL is brought to the machine that opens it, and no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.file_cache import FileCache, Hashed
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
            SettingsError: no worker can be started, or a remote file cannot be kept here.
            SourceChangedError: a remote file has no longer the bytes that were hashed.
            OSError: a remote file cannot be had.
            Exception: what the function itself raised.
        """

    async def hash(self, source: Source) -> Hashed:
        """What a remote file's bytes are now; the copy made for that stays with who will open it.

        Raises:
            OSError: it cannot be had; ``strerror`` says why.
            SettingsError: it cannot be kept here, or a package is missing.
        """


@dataclass(frozen=True, slots=True)
class LocalReader:
    """Reads in the sandbox of this machine, remote files from ``cache``."""

    sandbox: Sandbox
    cache: FileCache = field(default_factory=FileCache)

    @property
    def processes(self) -> int:
        """As many as the sandbox has."""
        return self.sandbox.processes

    async def read(self, source: Source, function: str, *args: object) -> Any:
        """See ``Reader``; the size of the file scales the limits of the call."""
        if not source.is_remote:
            return await self.sandbox.call(source.size_bytes, function, source, *args)
        async with self.cache.held(source) as local:
            return await self.sandbox.call(local.size_bytes, function, local, *args)

    async def hash(self, source: Source) -> Hashed:
        """See ``Reader``."""
        return await self.cache.hash(source)

    async def copy(self, source: Source, target: Path) -> int:
        """Put a remote file's bytes at ``target``, where they stay whatever the cache removes; their count.

        Raises:
            SourceChangedError, OSError, SettingsError: as ``read``.
        """
        return await self.cache.copy(source, target)
