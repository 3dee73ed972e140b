"""Where the work of a run is done: on hosts, one of which may be this machine.

The driver keeps the ledger, the pace, the budget and the retries. A host reads documents, cuts chunks and makes
attempts, each at most once: nothing that runs a host may repeat a call.
"""

from __future__ import annotations

import errno
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pipeline.domain import Chunk, Outcome, Payload, Task
from pipeline.errors import NoHostsError
from pipeline.fields import ResultField
from pipeline.file_cache import Hashed
from pipeline.job import Endpoint, PromptSettings
from pipeline.pdf import Original, Passwords, Source
from pipeline.sandbox import Limits

READ_ON_HOSTS = 3
"""A document that so many hosts did not survive is not given to another."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What a host must know of a job.

    ``slots``: how many requests it has in flight at most. ``cache_bytes`` bounds its copies of remote files.
    """

    endpoint: Endpoint
    prompt: PromptSettings
    fields: tuple[ResultField, ...]
    max_request_bytes: int
    limits: Limits
    cache_bytes: int
    slots: int


@dataclass(frozen=True, slots=True)
class Secrets:
    """What no file and no output may hold; its repr shows neither."""

    key: str | None = field(default=None, repr=False)
    passwords: Passwords = field(default_factory=Passwords)


class HostLost(Exception):  # noqa: N818 - what happened, and no error of ours
    """A host gave no answer to a call: it died, or cannot be reached. ``begun``: it may have carried the call out."""

    def __init__(self, reason: str, begun: bool = True) -> None:
        super().__init__(reason)
        self.begun = begun


@dataclass(frozen=True, slots=True)
class Read:
    """Call ``function(source, *args)`` in a worker process; see ``reading.Reader``."""

    source: Source
    function: str
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Hash:
    """What a remote file's bytes are now; see ``reading.Reader``."""

    source: Source


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the file for a chunk: a ``Payload``, ``Failure`` or ``Split``."""

    chunk: Chunk
    original: Original
    reduced: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Make an attempt, which is on record: an ``Outcome``. The payload lies on the host that is called.

    ``original`` is that of a chunk. ``recorded`` are earlier attempts whose outcomes the ledger has by now.
    """

    attempt: str
    task: Task
    original: Original | None
    payload: Payload
    by_schema: bool
    max_tokens: int
    recorded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Join:
    """Await an attempt that was begun by an earlier call: its ``Outcome``, None if the host does not know it."""

    attempt: str


Work = Read | Hash | Prepare | Send | Join


def attempt_key(attempt: int, chunk: str) -> str:
    """The name of an attempt on its host: with its chunk, since a ledger that was restored counts anew."""
    return f"{attempt}-{chunk}"


@dataclass(frozen=True, slots=True)
class Host:
    """One that works: ``slots`` requests are in flight on it at most, and ``processes`` read documents."""

    name: str
    slots: int
    processes: int


class Engine(Protocol):
    """Hosts, and a way to call them."""

    def open(self) -> Sequence[str]:
        """Find or start the hosts, and say which of them are left out, and why. Blocks.

        Raises:
            SettingsError: there is no cluster, or it cannot do this job; what to do.
        """

    def hosts(self) -> Sequence[Host]:
        """Those that can be called now; none when all are lost for good."""

    async def call(self, host: str, work: Work) -> Any:
        """Have a host do some work, at most once. Given up, it goes on there; a later ``Join`` may ask for it.

        Raises:
            HostLost: no answer; the work may have been done.
            Exception: what the work raised.
        """

    async def held(self) -> Mapping[str, str]:
        """The attempts that hosts still make or keep the outcomes of, and on which host each is."""

    async def rest(self) -> None:
        """Nothing is sent for now, and this event loop ends: connections are closed."""

    def close(self, recorded: Mapping[str, Sequence[str]]) -> None:
        """The run is over: hosts end when they have nothing left to do.

        ``recorded``, by host, are attempts whose outcomes need not be kept.
        """


class Hosts:
    """The hosts of an engine, each called in its turn; a ``reading.Reader``.

    What is about one document goes to one host, which has it at hand, unless that is busy.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lost = "nobody knows why"
        self._load: Counter[str] = Counter()  # what each has to do or holds ready
        self._recorded: defaultdict[str, list[str]] = defaultdict(list)  # attempts that each need not keep

    @property
    def slots(self) -> int:
        """How many requests can be in flight."""
        return max(1, sum(host.slots for host in self.engine.hosts()))

    @property
    def processes(self) -> int:
        """How many documents can be read at once."""
        return max(1, sum(host.processes for host in self.engine.hosts()))

    def take(self, near: str) -> str:
        """A host for something about the document ``near``; it counts as busier until it is given back.

        Raises:
            NoHostsError: none is left.
        """
        hosts = self.engine.hosts()
        if not hosts:
            raise NoHostsError(
                f"every host of the cluster is lost (the last one: {self._lost}); what was recorded stays recorded: run"
                " the job again when the cluster is back"
            )
        host = hosts[0]
        if len(hosts) > 1:
            host = max(hosts, key=lambda host: _weight(host.name, near))
            if self._load[host.name] >= 2 * host.slots:  # one in flight and one ready for each slot
                host = min(hosts, key=lambda host: self._load[host.name] / host.slots)
        self._load[host.name] += 1
        return host.name

    def give_back(self, host: str) -> None:
        """It is done with what it was taken for."""
        self._load[host] -= 1

    def forget(self, host: str, attempt: str) -> None:
        """The outcome of an attempt is on record: the host is told so with the next that it makes, or in the end."""
        self._recorded[host].append(attempt)

    def close(self) -> None:
        """The run is over; see ``Engine``."""
        self.engine.close(self._recorded)

    async def send(self, host: str, work: Send) -> Outcome:
        """Have a host make an attempt. Raises ``HostLost``."""
        recorded = tuple(self._recorded.pop(host, ()))
        outcome: Outcome = await self.call(host, replace(work, recorded=recorded))
        return outcome

    async def call(self, host: str, work: Work) -> Any:
        """As ``Engine.call``."""
        try:
            return await self.engine.call(host, work)
        except HostLost as lost:
            self._lost = str(lost)
            raise

    async def read(self, source: Source, function: str, *args: object) -> Any:
        """See ``reading.Reader``."""
        return await self._read(source.path, Read(source, function, args))

    async def hash(self, source: Source) -> Hashed:
        """See ``reading.Reader``."""
        hashed: Hashed = await self._read(source.path, Hash(source))
        return hashed

    async def _read(self, near: str, work: Read | Hash) -> Any:
        """On another host where one is lost, for reading costs nothing."""
        with suppress(NoHostsError):
            for _ in range(READ_ON_HOSTS):
                host = self.take(near)
                try:
                    return await self.call(host, work)
                except HostLost:
                    continue
                finally:
                    self.give_back(host)
        raise InterruptedError(errno.EINTR, "the hosts that were to read it were lost")


def _weight(host: str, near: str) -> bytes:
    """By which each document has its own order of hosts, which stays when others come and go (rendezvous hashing)."""
    return hashlib.blake2b(f"{host}\0{near}".encode(errors="surrogatepass"), digest_size=8).digest()
