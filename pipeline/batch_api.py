"""Message Batches over HTTP: created, looked at, found again, read. Whatever goes wrong is a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pipeline import answers, failures, message_batches, messages
from pipeline.client import Client, Reply
from pipeline.domain import Answer, Exchange, Failure, FailureClass, Outcome
from pipeline.message_batches import Batch, Listed, Result, Unprocessed
from pipeline.messages import ApiError, Message, Schema, Unusable

_NOT_CREATED = frozenset({429, 503, 529})  # of the answers with 429 and more, those that say that nothing was done


@dataclass(frozen=True, slots=True)
class Unclear:
    """A batch was sent, and whether the API has it is not known."""

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The API does not know the batch."""


@dataclass(frozen=True, slots=True)
class BatchApi:
    """One endpoint's batches. ``base_url`` is the client's."""

    client: Client
    base_url: str

    async def create(self, body: Path) -> Batch | Unclear | Failure:
        """Send a batch; with a failure the API certainly does not have it."""
        reply = await self.client.post_file(message_batches.BATCHES_PATH, body)
        if reply.status == 200 and reply.problem is None and (batch := message_batches.read_batch(reply.body)):
            return batch
        if reply.status is None and not reply.sent:
            return _failure(reply)
        if reply.status in (None, 200) or (reply.status >= 500 and reply.status not in _NOT_CREATED):
            return Unclear(reply.problem or _failure(reply).reason)
        return _failure(reply)

    async def look(self, name: str) -> Batch | Gone | Failure:
        """How the batch of that id is getting on."""
        reply = await self.client.get(message_batches.batch_path(name))
        if reply.status == 200 and reply.problem is None:
            return message_batches.read_batch(reply.body) or _failure(reply)
        if reply.status == 404 and messages.read_error(reply.body).type == "not_found_error":
            return Gone()
        return _failure(reply)

    async def created_since(self, time: datetime) -> tuple[Batch, ...] | Failure:
        """The batches of the account that were created at a time or after it."""
        found: list[Batch] = []
        after: str | None = None
        while True:
            reply = await self.client.get(message_batches.list_path(after))
            listed: Listed | None = message_batches.read_list(reply.body) if reply.status == 200 else None
            if listed is None or reply.problem is not None:
                return _failure(reply)
            young = [b for b in listed.batches if b.created_at is None or b.created_at >= time]
            found += young
            after = listed.more_after
            if after is None or len(young) < len(listed.batches):
                return tuple(found)

    async def fetch(self, batch: Batch, target: Path) -> Failure | None:
        """Put the results of a batch that has ended into a file, a line for each."""
        reply = await self.client.get(batch.results_path(self.base_url), target)
        return None if reply.status == 200 and reply.problem is None else _failure(reply)


def results_in(file: Path) -> Iterator[Result]:
    """The results in a fetched file, in the order of the API, which is any. Lines that are none are passed over."""
    with file.open("rb") as lines:
        yield from filter(None, map(message_batches.read_result, lines))


def outcome_of(result: Result, batch: Batch, schema: Schema, note: str | None) -> Outcome:
    """What a result comes to: ``schema`` is what was asked for, ``note`` goes with its answer."""
    exchange = Exchange(request_id=batch.id, latency_s=batch.took_s)
    match result.held:
        case Message() as message:
            # By the API's documentation all of it is billed at the price of batches, whatever the line says.
            usage = replace(message.usage, batch=True) if message.usage else None
            exchange = replace(exchange, status=200, model=message.model, usage=usage, message_id=message.id)
            outcome = answers.judge(message, schema, exchange)
            return replace(outcome, note=note) if isinstance(outcome, Answer) else outcome
        case ApiError() as error:
            return failures.of_batched(error, replace(exchange, request_id=error.request_id or batch.id))
        case Unusable(reason, usage):
            return failures.of_trouble(reason, replace(exchange, status=200, usage=usage))
        case Unprocessed(how):
            return failures.of_trouble(f"{how} in the batch {batch.id}", exchange)


def _failure(reply: Reply) -> Failure:
    exchange = Exchange(reply.status, latency_s=reply.latency_s, sent=reply.sent)
    if reply.status in (None, 200):
        return failures.of_trouble(reply.problem or "the endpoint answered with something else", exchange)
    failure = failures.of_status(reply.status, reply.headers, messages.read_error(reply.body), exchange)
    is_missing = reply.status in (404, 405) and failure.kind is not FailureClass.TRANSIENT
    return replace(failure, kind=FailureClass.OURS) if is_missing else failure
