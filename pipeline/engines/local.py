"""The one host is this machine: calls are awaited in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import reading
from pipeline.engine import Host, HostSettings, Secrets, Work
from pipeline.file_cache import FileCache
from pipeline.host import HostRunner
from pipeline.reading import LocalReader
from pipeline.sandbox import Sandbox

_NAME = "here"


class LocalEngine:
    """An ``Engine`` of one host, which is never lost. ``spool`` is the folder for cut chunks."""

    def __init__(self, settings: HostSettings, secrets: Secrets, sandbox: Sandbox, spool: Path) -> None:
        self._settings = settings
        self._secrets = secrets
        self._reader = LocalReader(sandbox, FileCache(settings.cache_bytes))
        self._spool = spool
        self._hosts = (Host(_NAME, settings.slots, sandbox.processes),)
        self._runner: HostRunner | None = None

    @property
    def runner(self) -> HostRunner:
        """What does the work, made anew after a rest."""
        if self._runner is None:
            self._runner = HostRunner(self._settings, self._secrets.key, self._reader, self._spool)
        return self._runner

    def open(self) -> Sequence[str]:
        """Nothing has to be found; worker processes start with the first call."""
        reading.set_up(self._reader.sandbox, self._settings.limits, self._secrets.passwords)
        return ()

    def hosts(self) -> Sequence[Host]:
        """The one that there is."""
        return self._hosts

    async def call(self, host: str, work: Work) -> Any:
        """See ``Engine``; given up, the work ends."""
        return await self.runner.do(work)

    async def held(self) -> Mapping[str, str]:
        """Nothing outlives this process."""
        return {}

    async def rest(self) -> None:
        """See ``Engine``."""
        if self._runner is not None:
            await self._runner.close()
            self._runner = None

    def close(self, recorded: Mapping[str, Sequence[str]]) -> None:
        """Nothing is left to do."""
