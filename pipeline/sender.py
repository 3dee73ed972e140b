"""Which host does what for a task, and what is done when one is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline import failures, opening
from pipeline.chunk_worker import ChunkWorker
from pipeline.domain import Chunk, Content, Failure, Outcome, Payload, Split, Task
from pipeline.engine import READ_ON_HOSTS, HostLost, Hosts, Join, Prepare, Send, attempt_key
from pipeline.message_batches import Pack
from pipeline.opening import Sources
from pipeline.pdf import Original


class Sender:
    """Has hosts do what is to be done for tasks, and tells them where each content lies; see ``dispatch.Sender``.

    A payload lies on the host that made it, so the attempt is made there. ``holds``: one that was lost with its host
    is not made again but by a person's word.
    """

    def __init__(self, hosts: Hosts, contents: Mapping[str, Content], places: Sources, holds: bool) -> None:
        self._hosts = hosts
        self._holds = holds
        self._contents = contents
        self._places = places
        self._made_on: dict[str, str] = {}  # of attempts whose outcomes are not on record

    async def prepare(self, task: Task, reduced: bool) -> Payload | Failure | Split:
        """See ``dispatch.Sender``; on another host where one is lost, for cutting costs nothing."""
        if not isinstance(task, Chunk):
            return Payload(None, host=self._hosts.take(task.content))
        original = self.original(task)
        for _ in range(READ_ON_HOSTS):
            host = self._hosts.take(original.source.path)
            prepared: Payload | Failure | Split | None = None
            try:
                prepared = _on(host, await self._hosts.call(host, Prepare(task, original, reduced)))
                return prepared
            except HostLost:
                continue
            finally:
                if not isinstance(prepared, Payload) and not (isinstance(prepared, Split) and prepared.payload):
                    self._hosts.give_back(host)  # else when it was sent
        return failures.not_this_run("the hosts that were to cut it were lost")

    async def send(self, attempt: int, task: Task, payload: Payload, by_schema: bool, max_tokens: int) -> Outcome:
        """See ``dispatch.Sender``."""
        key, host = attempt_key(attempt, task.id), payload.host
        original = self.original(task) if isinstance(task, Chunk) else None
        self._made_on[key] = host
        try:
            return await self._hosts.send(host, Send(key, task, original, payload, by_schema, max_tokens))
        except HostLost as lost:
            if lost.begun and (left := await self._left_by(host, key)):
                return left
            self._made_on.pop(key)  # the host may keep its outcome yet, for the next run
            return failures.of_lost(str(lost), lost.begun, self._holds)
        finally:
            self._hosts.give_back(host)

    def recorded(self, attempt: int, task: Task) -> None:
        """See ``dispatch.Sender``."""
        key = attempt_key(attempt, task.id)
        if host := self._made_on.pop(key, None):
            self._hosts.forget(host, key)

    def original(self, chunk: Chunk) -> Original:
        """The file that a chunk is cut from."""
        content = self._contents[chunk.content]
        source = opening.place(self._places, chunk.content) or self._places[chunk.content][0]
        # What was out of the ordinary to open is not left to the API's reader.
        must_be_cut = content.encrypted or content.note is not None or content.problem is not None
        return Original(source, content.pages or 0, must_be_cut, content.media_type)

    async def _left_by(self, lost: str, key: str) -> Outcome | None:
        """The outcome that a host kept before it was lost: it may be back, or another may share its disk."""
        for host in dict.fromkeys([lost, *(host.name for host in self._hosts.engine.hosts())]):
            try:
                if outcome := await self._hosts.call(host, Join(key)):
                    found: Outcome = outcome
                    return found
            except HostLost:
                continue
        return None


@dataclass(frozen=True, slots=True)
class Packer:
    """Makes chunks ready and puts them into batches, on this machine."""

    sender: Sender
    worker: ChunkWorker

    async def prepare(self, task: Task, reduced: bool) -> Payload | Failure | Split:
        """As ``ChunkWorker.prepare``."""
        if isinstance(task, Chunk):
            return await self.worker.prepare(task, self.sender.original(task), reduced)
        return Payload(None)

    def pack(
        self, task: Task, payload: Payload, by_schema: bool, max_tokens: int, pack: Pack, custom_id: str
    ) -> bool | Failure:
        """As ``ChunkWorker.pack``."""
        original = self.sender.original(task) if isinstance(task, Chunk) else None
        return self.worker.pack(task, original, payload, by_schema, max_tokens, pack, custom_id)


def _on(host: str, prepared: Payload | Failure | Split) -> Payload | Failure | Split:
    match prepared:
        case Payload():
            return replace(prepared, host=host)
        case Split(payload=Payload() as payload):
            return replace(prepared, payload=replace(payload, host=host))
    return prepared
