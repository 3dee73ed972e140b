"""What runs on a host of a cluster for one ledger: an actor, though this module knows nothing of ray."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import __version__, reading
from pipeline.engine import HostSettings, Join, Secrets, Work
from pipeline.file_cache import FileCache, users_folder
from pipeline.host import HostRunner
from pipeline.reading import LocalReader
from pipeline.results import Results
from pipeline.sandbox import Sandbox
from pipeline.storage import Url

UNSET = "unset"
"""What a host says to a driver that it does not know, or no longer: nothing was done."""

_SPOOLS_HERE = f"spool-{socket.gethostname()}-"  # several machines may share the folder
_WITHOUT_DRIVER_S = 15 * 60.0
_LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a host says of itself."""

    version: str
    processes: int
    sees_folder: bool


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception on its way to the driver, which raises it."""

    error: Exception


class RayHost:
    """Works for one ledger; after a quarter of an hour without a driver it calls ``end_actor``.

    Outcomes are kept in the folder ``spool``, or else on this machine, until the driver has them on record. No more
    than ``processors`` processes read documents: in a container the machine has more than it may use.
    """

    def __init__(
        self,
        ledger: str,
        spool: str | None,
        end_actor: Callable[[], None],
        processors: int | None = None,
        without_driver_s: float = _WITHOUT_DRIVER_S,
    ) -> None:
        # Worker processes would load the main module of this one, and with it all of ray.
        sys.modules["__main__"].__file__ = None
        self._home = users_folder().with_name("hosts") / ledger
        self._results = Results((Path(spool) / ledger if spool else self._home) / "results")
        self._remove_spools_of_killed_hosts()
        self._processors = processors
        self._sandbox = Sandbox(processors)
        self._sandbox.start()
        self._job: tuple[HostSettings, Secrets] | None = None
        self._runner: HostRunner | None = None
        self._driver = ""
        self._before: list[HostRunner] = []  # with attempts of an earlier driver
        self._end_actor = end_actor
        self._without_driver_s = without_driver_s
        self._heard_s = time.monotonic()
        self._watching = asyncio.create_task(self._watch())  # also when no driver ever calls one that was started anew

    async def hello(self, folder: Path | Url) -> Facts:
        """Who this is, and whether it sees the folder with the documents."""
        await self.beat()
        sees_folder = isinstance(folder, Url) or await asyncio.to_thread(folder.is_dir)
        return Facts(__version__, self._sandbox.processes, sees_folder)

    async def set(self, driver: str, settings: HostSettings, secrets: Secrets) -> None:
        """Work for a driver and its job from now on; attempts that were begun for another go on."""
        await self.beat()
        self._driver = driver
        if self._job != (settings, secrets):
            if self._runner is not None:
                self._before.append(self._runner)
            reading.set_up(self._sandbox, settings.limits, secrets.passwords)
            spool = self._home / f"{_SPOOLS_HERE}{os.getpid()}-{uuid.uuid4().hex}"
            reader = LocalReader(self._sandbox, FileCache(settings.cache_bytes))
            self._runner = HostRunner(settings, secrets.key, reader, spool, self._results)
            self._job = settings, secrets

    async def do(self, driver: str, work: Work) -> Any:
        """The result of some work, ``Raised`` or ``UNSET``."""
        await self.beat()
        try:
            if isinstance(work, Join):
                return await self._joined(work)
            if self._runner is None or driver != self._driver:
                return UNSET
            return await self._runner.do(work)
        except Exception as error:  # noqa: BLE001 - the driver raises it
            return Raised(error)

    async def held(self) -> Sequence[str]:
        """The attempts that are made here, or whose outcomes are kept."""
        return sorted({*self._results.keys(), *(key for runner in self._runners() for key in runner.held())})

    async def beat(self) -> None:
        """There is a driver."""
        self._heard_s = time.monotonic()

    async def leave(self, recorded: Sequence[str]) -> bool:
        """The driver is done; whether this host has nothing left to do either, and may be ended.

        The outcomes of attempts that are ``recorded`` are kept no longer.
        """
        await asyncio.to_thread(self._results.drop, recorded)
        if any(runner.is_busy for runner in self._runners()):
            return False
        await self._end()
        return True

    async def _joined(self, work: Join) -> Any:
        for runner in self._runners():
            if (outcome := await runner.do(work)) is not None:
                return outcome
        return self._results.get(work.attempt)

    def _runners(self) -> list[HostRunner]:
        return [*self._before, *filter(None, [self._runner])]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_S, self._without_driver_s))
            for runner in [runner for runner in self._before if not runner.is_busy]:
                self._before.remove(runner)
                await runner.close()
            alone_s = time.monotonic() - self._heard_s
            if alone_s > self._without_driver_s and not any(runner.is_busy for runner in self._runners()):
                await self._end()
                self._end_actor()

    def _remove_spools_of_killed_hosts(self) -> None:
        """They hold parts of documents."""
        for spool in self._home.glob(f"{_SPOOLS_HERE}*"):
            try:
                os.kill(int(spool.name.removeprefix(_SPOOLS_HERE).partition("-")[0]), 0)
            except ProcessLookupError:
                shutil.rmtree(spool, ignore_errors=True)
            except PermissionError:
                continue  # it is alive

    async def _end(self) -> None:
        for runner in self._runners():
            await runner.close()
        self._before, self._runner, self._job = [], None, None
        self._sandbox.stop()
        self._sandbox = Sandbox(self._processors)  # another driver may come before this process ends
