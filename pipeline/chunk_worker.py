"""Makes one chunk ready, sends it and judges what comes back. Knows no ledger, no retries and no other chunk."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import answers, failures, message_batches, messages
from pipeline.client import Client, Reply, body_blocks
from pipeline.domain import (
    Answer,
    Chunk,
    Exchange,
    Failure,
    FailureClass,
    MediaType,
    Outcome,
    PageRange,
    Payload,
    Picture,
    Split,
    Synthesis,
    Task,
)
from pipeline.fields import ResultField
from pipeline.job import Endpoint, PromptSettings
from pipeline.message_batches import Pack
from pipeline.messages import ApiError, Body, Message, Schema, Unusable
from pipeline.pdf import Copied, Depicted, ImageError, Original, PdfError, Source, SourceChangedError, is_changed
from pipeline.reading import LocalReader
from pipeline.sandbox import SandboxError


@dataclass(frozen=True, slots=True)
class ChunkWorker:
    """What every chunk of a run is sent with.

    ``spool`` is a folder for cut chunks; each is deleted once it was sent. ``max_request_bytes`` bounds a
    whole request body, and ``largest_body`` is what can stand in it around a file. ``fields`` are the job's own.
    """

    client: Client
    reader: LocalReader
    spool: Path
    endpoint: Endpoint
    prompt: PromptSettings
    max_request_bytes: int
    largest_body: Body
    fields: tuple[ResultField, ...] = ()

    async def prepare(self, chunk: Chunk, original: Original, reduced: bool) -> Payload | Failure | Split:
        """The file to send for a chunk: the original where it goes as it is, else the pages cut from it.

        Pages of an image file become a picture each. A single page that is too large is made smaller. ``reduced``:
        so it is when it was sent before and the API took it for too large; then it is to have half of the bytes.
        """
        source, target = original.source, self.spool / chunk.id
        is_pdf = original.media_type is MediaType.PDF
        whole = is_pdf and len(chunk.pages) == original.page_count and not original.must_be_cut
        # Unchanged bytes are the best bytes to send; what is too large as it lies there may shrink when cut.
        goes_as_it_lies = whole and not reduced and self._request_bytes(source.size_bytes) <= self.max_request_bytes
        try:
            if goes_as_it_lies:
                return await self._as_it_lies(source, target)
            if not is_pdf:
                return await self._depicted(chunk, source, target, reduced)
            most_bytes = self.largest_body.most_payload_bytes(self.max_request_bytes)
            cut: Copied = await self.reader.read(source, "pipeline.splitter:cut", chunk.pages, target, most_bytes)
            payload = Payload(target, cut.size_bytes)
            if cut.pages != chunk.pages:
                return self._in_two(cut, payload, most_bytes)
            if not reduced and cut.size_bytes <= most_bytes:
                return payload
            return await self._reduced(chunk, source, target, cut.size_bytes, reduced)
        except (PdfError, ImageError, SandboxError) as error:
            _remove(target)  # what a process that was killed had written
            if is_changed(source):  # while it was read: what it was is not to blame
                return failures.not_this_run(_CHANGED)
            if isinstance(error, PdfError) and error.encrypted:  # it was opened before, with a password not here now
                return failures.not_this_run(str(error))
            return Failure(FailureClass.DOCUMENT, str(error))
        except SourceChangedError:
            _remove(target)
            return failures.not_this_run(_CHANGED)
        except OSError as error:
            _remove(target)  # what a full disk cut short
            return failures.not_this_run(f"{chunk.pages.label} could not be read or spooled: {error.strerror}")

    async def _as_it_lies(self, source: Source, target: Path, pictures: tuple[Picture, ...] = ()) -> Payload:
        """The file itself; a remote one in a copy that is ours, for others may take away the one that was read."""
        if source.is_remote:
            return Payload(target, await self.reader.copy(source, target), pictures)
        return Payload(Path(source.path), pictures=pictures)

    def _in_two(self, cut: Copied, payload: Payload, most_bytes: int) -> Split:
        """The chunk in two parts, the first being what was cut already."""
        if cut.size_bytes <= most_bytes:
            return self._no_more_than(cut.pages, payload)
        _delete(payload)  # a single page that is too large must be made smaller first
        return Split(f"{cut.pages.label} alone is too much for {self._limit_in_words}", cut.pages.last)

    def _no_more_than(self, pages: PageRange, payload: Payload) -> Split:
        return Split(f"no more than {pages.label} fit into {self._limit_in_words}", pages.last, payload)

    @property
    def _limit_in_words(self) -> str:
        return f"a request of {self.max_request_bytes / 1e6:g} MB"

    async def _depicted(self, chunk: Chunk, source: Source, target: Path, halved: bool) -> Payload | Failure | Split:
        """Pages of an image file as pictures, or the file itself where it is one that the API takes."""
        around = messages.largest_body(self.endpoint, self.prompt, len(chunk.pages), self.fields)
        room_bytes = self.max_request_bytes - around.size_bytes(0)
        depicted: Depicted | None = await self.reader.read(
            source, "pipeline.image_files:depict", chunk.pages, target, room_bytes, halved
        )
        if depicted is None:
            first = PageRange(chunk.pages.first, chunk.pages.first)
            if first != chunk.pages:
                return Split(f"{first.label} alone is too much for {self._limit_in_words}", first.last)
            limit = "the API" if halved else self._limit_in_words
            return Failure(FailureClass.TOO_LARGE, f"{chunk.pages.label} cannot be made small enough for {limit}")
        if depicted.unchanged:
            return await self._as_it_lies(source, target, depicted.pictures)
        note = f"{chunk.pages.label} was too large for the API: it was sent smaller" if halved else None
        payload = Payload(target, sum(picture.size_bytes for picture in depicted.pictures), depicted.pictures, note)
        return payload if depicted.pages == chunk.pages else self._no_more_than(depicted.pages, payload)

    async def _reduced(
        self, chunk: Chunk, source: Source, target: Path, size_bytes: int, halved: bool
    ) -> Payload | Failure:
        """A single page in fewer bytes than the ``size_bytes`` that it has when it is cut."""
        max_bytes = self.largest_body.most_payload_bytes(self.max_request_bytes)
        if halved:
            max_bytes = min(max_bytes, size_bytes) // 2
        trouble = ""
        for function, is_picture, words, short in _WAYS_TO_REDUCE:
            try:
                fits: int | None = await self.reader.read(source, function, chunk.pages.first, target, max_bytes)
            except (PdfError, SandboxError) as error:
                trouble = f" ({short}: {error})"  # the other way may do
                continue
            if fits is not None:
                pictures = (Picture(MediaType.JPEG, fits),) if is_picture else ()
                return Payload(target, fits, pictures, f"{chunk.pages.label} alone was too large: {words}")
        _remove(target)
        why = "was too large for the API" if halved else f"makes {self._in_words(size_bytes)}"
        return Failure(
            FailureClass.TOO_LARGE, f"{chunk.pages.label} alone {why}, and cannot be made small enough{trouble}"
        )

    async def send_chunk(
        self, chunk: Chunk, original: Original, payload: Payload, by_schema: bool, max_tokens: int
    ) -> Outcome:
        """One attempt for one chunk. Whatever goes wrong is a value; a spooled payload is deleted."""
        endpoint = replace(self.endpoint, max_tokens=max_tokens)
        pictures = payload.pictures
        schema = messages.result_schema(self.fields)
        body = messages.chunk_body(
            endpoint, self.prompt, chunk.pages, original.page_count, by_schema, pictures, self.fields
        )
        try:
            if payload.spooled_bytes:
                outcome = await self._send(body, schema, payload)
                return replace(outcome, note=payload.note) if isinstance(outcome, Answer) else outcome
            # The original may be replaced at any time: it must be the one that was hashed before and after.
            # It need not be the file that was made ready, but a twin.
            if is_changed(original.source):
                return failures.not_this_run(_CHANGED)
            outcome = await self._send(body, schema, Payload(Path(original.source.path)))
            if is_changed(original.source):
                # Which bytes were read is unknown, but what it cost is not.
                return replace(failures.not_this_run(_CHANGED), exchange=outcome.exchange)
            return outcome
        except OSError as error:
            return failures.not_this_run(f"{chunk.pages.label} could not be read: {error.strerror}")
        finally:
            _delete(payload)

    async def send_synthesis(self, synthesis: Synthesis, by_schema: bool, max_tokens: int) -> Outcome:
        """One attempt to turn chunk summaries into one."""
        endpoint = replace(self.endpoint, max_tokens=max_tokens)
        body = messages.synthesis_body(endpoint, self.prompt, synthesis.summaries, by_schema)
        return await self._send(body, messages.SYNTHESIS_SCHEMA, Payload(None))

    def pack(
        self,
        task: Task,
        original: Original | None,
        payload: Payload,
        by_schema: bool,
        max_tokens: int,
        pack: Pack,
        custom_id: str,
    ) -> bool | Failure:
        """Add a request to a batch; False: it has no room left. A spooled payload that was added is deleted.

        ``original`` is that of a chunk.
        """
        endpoint = replace(self.endpoint, max_tokens=max_tokens, stream=False)  # a batch streams nothing
        path = payload.path
        if isinstance(task, Synthesis):
            body = messages.synthesis_body(endpoint, self.prompt, task.summaries, by_schema)
        else:
            assert original is not None  # noqa: S101 - a chunk has one
            page_count = original.page_count
            body = messages.chunk_body(
                endpoint, self.prompt, task.pages, page_count, by_schema, payload.pictures, self.fields
            )
            path = payload.path if payload.spooled_bytes else Path(original.source.path)
        try:
            size_bytes = path.stat().st_size if path else 0
            if not pack.has_room(message_batches.wrapped_bytes(body, size_bytes)):
                return False
            pack.add(custom_id, body_blocks(body, path, size_bytes))
        except OSError as error:
            _delete(payload)
            return failures.not_this_run(f"it could not be read or spooled: {error.strerror}")
        if original and not payload.spooled_bytes and is_changed(original.source):
            pack.take_back()
            return failures.not_this_run(_CHANGED)
        _delete(payload)
        return True

    def _request_bytes(self, file_bytes: int) -> int:
        """The size of a request around a file; for its few words about pages, the longest are taken."""
        return self.largest_body.size_bytes(file_bytes)

    async def _send(self, body: Body, schema: Schema, payload: Payload) -> Outcome:
        reply = await self.client.post(messages.MESSAGES_PATH, body, payload.path)
        result = received(reply)
        return result if isinstance(result, Failure) else answers.judge(result[0], schema, result[1])

    def _in_words(self, file_bytes: int) -> str:
        request_mb, limit_mb = self._request_bytes(file_bytes) / 1e6, self.max_request_bytes / 1e6
        return f"a request of {request_mb:.1f} MB (the limit is {limit_mb:g} MB)"


# The first that gives a small enough file. Each runs in the sandbox by itself: one may fail where the other does not.
_WAYS_TO_REDUCE = (
    ("pipeline.reducer:with_smaller_images", False, "its images were sent smaller", "with smaller images"),
    ("pipeline.reducer:as_picture", True, "it was sent as a picture", "as a picture"),
)


def _limit(headers: Mapping[str, str]) -> int | None:
    """The requests a minute that the account has, where the response says so."""
    value = headers.get("anthropic-ratelimit-requests-limit", "")
    return int(value) if value.isascii() and value.isdigit() and 0 < len(value) < 8 and int(value) else None


_CHANGED = "the file changed while the run was under way; the next run reads it as it is then"


def _delete(payload: Payload) -> None:
    if payload.spooled_bytes and payload.path:
        _remove(payload.path)


def _remove(path: Path) -> None:
    """Take a spooled file away, or leave it to the end of the run: no answer may be lost over it."""
    with suppress(OSError):
        path.unlink()


def received(reply: Reply) -> tuple[Message, Exchange] | Failure:
    """The message that a reply brings, with what it cost, or why it brings none."""
    request_id = reply.headers.get("request-id") or reply.headers.get("x-request-id")
    exchange = Exchange(
        reply.status, request_id, reply.latency_s, requests_per_minute=_limit(reply.headers), sent=reply.sent
    )
    if reply.status is None:
        return failures.of_trouble(reply.problem or "no response", exchange)
    if reply.status != 200:
        error = messages.read_error(reply.body)
        exchange = replace(exchange, request_id=request_id or error.request_id)
        return failures.of_status(reply.status, reply.headers, error, exchange)
    response = messages.read_response(reply.headers.get("content-type", ""), reply.body)
    exchange = replace(exchange, usage=response.usage)
    if reply.problem is not None:  # the body broke off; what a stream had reported was billed
        return failures.of_trouble(reply.problem, exchange)
    match response:
        case ApiError():
            return failures.of_status(reply.status, reply.headers, response, exchange)
        case Unusable():
            return failures.of_trouble(response.reason, exchange)
        case Message():
            return response, replace(exchange, model=response.model, message_id=response.id)
