"""Message Batches as the built-in endpoint speaks them: kept in memory, each request answered by a given function.

Reads no document itself, so that the main process may hold it. Source of the shapes: see ``message_batches``.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from pipeline.message_batches import BATCHES_PATH, MOST_BYTES, MOST_REQUESTS

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_AT_ONCE = 4
_JSON = {"content-type": "application/json"}

Response = tuple[int, Mapping[str, str], bytes]
AnswerOne = Callable[[bytes], Awaitable[Mapping[str, Any]]]
"""The body of one request in; its ``result`` out: ``succeeded``, ``errored`` or ``expired``."""


@dataclass(slots=True)
class _Batch:
    id: str
    requests: Sequence[Mapping[str, Any]]
    created_at: datetime
    results: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    canceled_at: datetime | None = None
    ended_at: datetime | None = None
    work: asyncio.Task[None] | None = None


class Batches:
    """The batches of one endpoint, for one event loop; ``created`` are their ids in order."""

    def __init__(self, answer_one: AnswerOne) -> None:
        self.created: list[str] = []
        self._answer_one = answer_one
        self._batches: dict[str, _Batch] = {}

    async def respond(self, method: str, target: str, body: bytes, host: str) -> Response:
        """The response to a request about batches, below ``BATCHES_PATH``.

        ``target`` is path and query; ``host`` is where the results are said to be.
        """
        path, _, query = target.partition("?")
        match method, path.removeprefix(BATCHES_PATH).split("/")[1:]:
            case "POST", []:
                return self._create(body, host)
            case "GET", []:
                return self._list(parse_qs(query), host)
            case "GET", [name] if name in self._batches:
                return _reply(200, _shown(self._batches[name], host))
            case "GET", [name, "results"] if name in self._batches and self._batches[name].ended_at:
                lines = b"".join(self._batches[name].results)
                return 200, {"content-type": "application/x-jsonl"}, lines
            case "POST", [name, "cancel"] if name in self._batches:
                batch = self._batches[name]
                batch.canceled_at = batch.canceled_at or _now()
                return _reply(200, _shown(batch, host))
            case _:
                return _error(404, "not_found_error", "Not Found")

    async def close(self) -> None:
        """Give up what is being processed."""
        tasks = [batch.work for batch in self._batches.values() if batch.work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _create(self, body: bytes, host: str) -> Response:
        if len(body) > MOST_BYTES:
            return _error(413, "request_too_large", "Request exceeds the maximum size")
        try:
            requests = json.loads(body)["requests"]
            ids = [request["custom_id"] for request in requests]
            are_requests = all(isinstance(request["params"], dict) for request in requests)
        except (ValueError, LookupError, TypeError, RecursionError):
            return _error(400, "invalid_request_error", "requests: Input should be a list of custom_id and params")
        if not are_requests or not 1 <= len(ids) <= MOST_REQUESTS:
            return _error(400, "invalid_request_error", f"requests: 1 to {MOST_REQUESTS} are taken, each with params")
        if len(set(ids)) < len(ids) or not all(isinstance(i, str) and _CUSTOM_ID.fullmatch(i) for i in ids):
            return _error(400, "invalid_request_error", "custom_id: must be unique and match ^[a-zA-Z0-9_-]{1,64}$")
        batch = _Batch(f"msgbatch_offline{uuid.uuid4().hex[:16]}", requests, _now())
        self._batches[batch.id] = batch
        self.created.append(batch.id)
        batch.work = asyncio.create_task(self._process(batch))
        return _reply(200, _shown(batch, host))

    def _list(self, query: Mapping[str, Sequence[str]], host: str) -> Response:
        newest_first = list(reversed(self.created))
        after = query.get("after_id", [""])[0]
        begin = newest_first.index(after) + 1 if after in self._batches else 0
        limit = query.get("limit", ["20"])[0]
        page = newest_first[begin : begin + (int(limit) if limit.isdecimal() else 20)]
        data = [_shown(self._batches[name], host) for name in page]
        ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
        return _reply(200, {"data": data, "has_more": begin + len(page) < len(newest_first), **ends})

    async def _process(self, batch: _Batch) -> None:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def process(request: Mapping[str, Any]) -> Mapping[str, Any]:
            async with at_once:
                if batch.canceled_at:
                    return {"type": "canceled"}
                if request["params"].get("stream"):
                    return _refused("stream: not supported in a batch")
                params = json.dumps(request["params"], ensure_ascii=False, separators=(",", ":"))
                return await self._answer_one(params.encode("utf-8", "replace"))

        results = await asyncio.gather(*map(process, batch.requests))
        lines = []
        for request, result in zip(batch.requests, results, strict=True):
            kind = result["type"]
            batch.counts[kind] = batch.counts.get(kind, 0) + 1
            line = {"custom_id": request["custom_id"], "result": result}
            lines.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        batch.results = lines[::-1]  # they come in any order
        batch.ended_at = _now()


def succeeded(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of a request that was answered."""
    return {"type": "succeeded", "message": {**message, "usage": {**message["usage"], "service_tier": "batch"}}}


def errored(body: bytes) -> Mapping[str, Any]:
    """The result of a request that was refused with that body."""
    try:
        error = json.loads(body)
    except ValueError:
        error = None
    if not isinstance(error, dict) or "error" not in error:
        error = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
    return {"type": "errored", "error": {"type": "error", **error}}


def _refused(message: str) -> Mapping[str, Any]:
    return errored(json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode())


def _shown(batch: _Batch, host: str) -> dict[str, Any]:
    """The batch as the API tells of it; counts stay 0 until the whole of it has ended."""
    status = "ended" if batch.ended_at else "canceling" if batch.canceled_at else "in_progress"
    counts = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0) | batch.counts
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": {"processing": 0 if batch.ended_at else len(batch.requests), **counts},
        "created_at": batch.created_at.isoformat(),
        "expires_at": (batch.created_at + timedelta(hours=24)).isoformat(),
        "ended_at": batch.ended_at.isoformat() if batch.ended_at else None,
        "archived_at": None,
        "cancel_initiated_at": batch.canceled_at.isoformat() if batch.canceled_at else None,
        "results_url": f"{host}{BATCHES_PATH}/{batch.id}/results" if batch.ended_at else None,
    }


def _reply(status: int, value: object) -> Response:
    return status, _JSON, json.dumps(value).encode()


def _error(status: int, kind: str, message: str) -> Response:
    return _reply(status, {"type": "error", "error": {"type": kind, "message": message}})


def _now() -> datetime:
    return datetime.now(UTC)
