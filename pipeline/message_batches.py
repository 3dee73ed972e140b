"""Message Batches on the wire: many requests as one body on disk; batches, lists and result lines as values. No HTTP.

Source of shapes and limits: https://platform.claude.com/docs/en/build-with-claude/batch-processing, as of October 2026.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline import messages
from pipeline.messages import ApiError, Body, Message, Unusable

BATCHES_PATH = "/v1/messages/batches"
MOST_REQUESTS = 100_000
MOST_BYTES = 256_000_000

_ENDS = b"]}"
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_LISTED_AT_ONCE = 100


class Pack:
    """The body of one batch in the making, in the file at ``path``; a context manager, after which the file is gone.

    ``requests`` is how many it holds. ``max_bytes`` bounds the whole.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.requests = 0
        self._max_bytes = max_bytes
        path.write_bytes(b'{"requests":[')
        self._file = path.open("ab")
        self._before_last = self._file.tell(), 0

    @property
    def size_bytes(self) -> int:
        """The size of the whole body."""
        return self._file.tell() + len(_ENDS)

    def has_room(self, size_bytes: int) -> bool:
        """Whether one more request, of so many bytes with all that is around it, fits in."""
        return self.requests < MOST_REQUESTS and self.size_bytes + size_bytes <= self._max_bytes

    def add(self, custom_id: str, parts: Iterable[bytes]) -> None:
        """One request more; ``parts`` are the bytes of a request for a message.

        Raises:
            OSError: there is no room on the disk, or what ``parts`` raised; nothing of the request stays.
        """
        self._before_last = self._file.tell(), self.requests
        try:
            self._file.write(b"," if self.requests else b"")
            self._file.write(b'{"custom_id":%b,"params":' % json.dumps(custom_id).encode())
            self._file.writelines(parts)
            self._file.write(b"}")
            self._file.flush()  # what does not fit on the disk is this request, and not the next
        except OSError:
            with suppress(OSError):
                self._file.close()  # what its buffer still holds must not be written by whatever comes next
            self._file = self.path.open("ab")
            self.take_back()
            raise
        self.requests += 1

    def take_back(self) -> None:
        """Without the request that was added last."""
        end_bytes, self.requests = self._before_last
        self._file.seek(end_bytes)
        self._file.truncate()

    def close(self) -> None:
        """The body is whole."""
        self._file.write(_ENDS)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def wrapped_bytes(body: Body, payload_bytes: int) -> int:
    """What a request with so many bytes of payload takes in a batch, custom id and all."""
    return body.size_bytes(payload_bytes) + 128


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the API tells of it. ``requests`` counts all that it holds, in whatever state."""

    id: str
    status: str
    requests: int
    created_at: datetime | None = None
    ended_at: datetime | None = None
    results_url: str | None = None

    @property
    def ended(self) -> bool:
        """Whether its results are there to be read."""
        return self.status == "ended"

    @property
    def took_s(self) -> float:
        """How long it took, in seconds; 0 where the API does not say."""
        if self.created_at is None or self.ended_at is None:
            return 0.0
        return max(0.0, (self.ended_at - self.created_at).total_seconds())

    def results_path(self, base_url: str) -> str:
        """Where its results are, below ``base_url``: what the API says, unless that leads elsewhere.

        The key goes to the endpoint of the job alone, whatever address a router hands on.
        """
        own = base_url.rstrip("/") + "/"
        if self.results_url and self.results_url.startswith(own):
            return "/" + self.results_url.removeprefix(own)
        return f"{batch_path(self.id)}/results"


def batch_path(name: str) -> str:
    """Where the API tells how a batch is getting on."""
    return f"{BATCHES_PATH}/{name}"


def list_path(after: str | None) -> str:
    """Where the API lists batches, the youngest first; ``after`` the batch of that id."""
    return f"{BATCHES_PATH}?limit={_LISTED_AT_ONCE}" + (f"&after_id={after}" if after else "")


def read_batch(body: bytes) -> Batch | None:
    """A response about one batch; None when it is something else."""
    return _batch(_parsed(body))


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of the list of batches; ``more_after`` is the id after which it goes on, None at its end."""

    batches: tuple[Batch, ...]
    more_after: str | None


def read_list(body: bytes) -> Listed | None:
    """A response that lists batches; None when it is something else."""
    value = _parsed(body)
    data = value.get("data")
    if not isinstance(data, list):
        return None
    batches = tuple(filter(None, (_batch(item) for item in data if isinstance(item, dict))))
    last = value.get("last_id")
    goes_on = value.get("has_more") is True and isinstance(last, str) and _ID.fullmatch(last)
    return Listed(batches, str(last) if goes_on else None)


@dataclass(frozen=True, slots=True)
class Unprocessed:
    """A request that the API did not come to; ``how`` is its word: ``expired`` or ``canceled``."""

    how: str


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a batch's results."""

    custom_id: str
    held: Message | ApiError | Unusable | Unprocessed


def read_result(line: bytes) -> Result | None:
    """A line of the results; None when it is none."""
    value = _parsed(line)
    custom_id, result = value.get("custom_id"), value.get("result")
    if not isinstance(custom_id, str) or not isinstance(result, dict):
        return None
    match result.get("type"):
        case "succeeded":
            return Result(custom_id, messages.read_response("application/json", _dumped(result.get("message"))))
        case "errored":
            return Result(custom_id, messages.read_error(_dumped(result.get("error"))))
        case "expired" | "canceled" as how:
            return Result(custom_id, Unprocessed(how))
        case _:
            return Result(custom_id, Unusable("the result is of no known type"))


def _batch(value: Mapping[str, Any]) -> Batch | None:
    name, status, counts = value.get("id"), value.get("processing_status"), value.get("request_counts")
    if not isinstance(name, str) or not _ID.fullmatch(name) or not isinstance(status, str):
        return None
    numbers = counts.values() if isinstance(counts, dict) else ()
    url = value.get("results_url")
    return Batch(
        name,
        status[:40],
        sum(number for number in numbers if type(number) is int),
        _time(value.get("created_at")),
        _time(value.get("ended_at")),
        url if isinstance(url, str) else None,
    )


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()
