"""Where a job stands: its files, what they hold and what the ledger knows, seen together.

Answers what is due, what a run would do and why, and what each document's result is. Reads the ledger
and writes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline import aggregator, messages, models, pdf, planner
from pipeline.aggregator import Reading
from pipeline.domain import (
    RULES_MODEL,
    Chunk,
    ChunkRecord,
    ChunkState,
    Content,
    DocumentResult,
    DocumentStatus,
    FailureClass,
    SourceFile,
    Synthesis,
    Task,
    Usage,
)
from pipeline.job import Job
from pipeline.ledger import Ledger
from pipeline.models import Model
from pipeline.planner import Limits, PlannedChunk, Why
from pipeline.prices import PriceList

_OPEN = ChunkRecord(ChunkState.OPEN)


@dataclass(frozen=True, slots=True)
class PlannedDocument:
    """What a run would do for one document. ``cost_usd`` is None when the price is unknown."""

    path: str
    why: Why
    reason: str | None
    chunks: int
    pages: int
    usage: Usage
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be sent for one content, and what each request for it is expected to take.

    The summary of the whole is among ``requests`` though it becomes a task only when all chunks are answered.
    ``failed_before``: some of it was sent before and failed.
    """

    tasks: tuple[Task, ...]
    requests: tuple[Usage, ...]
    failed_before: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """One job's files and contents over its ledger. ``contents`` go by their SHA-256; more may come in."""

    job: Job
    ledger: Ledger
    files: Sequence[SourceFile]
    contents: Mapping[str, Content]

    @property
    def fingerprint(self) -> str:
        """The request fingerprint of the job's settings."""
        return messages.request_fingerprint(self.job.endpoint, self.job.prompt, self.job.fields)

    def due(self, contents: Iterable[Content], known: Mapping[str, ChunkRecord], failed_only: bool) -> Iterator[Due]:
        """What is to be sent for these contents, each in its turn. ``known`` are all ``records``.

        ``failed_only``: only what failed, also for good.
        """
        plan = self._planning()
        for content in contents:
            chunks = plan.chunks(content, known)
            tasks: list[Task] = [p.chunk for p in chunks if planner.is_due(p.record, failed_only)]
            wanted = self._synthesis(chunks)  # none while a chunk is missing
            if wanted and planner.is_due(known.get(wanted.id, _OPEN), failed_only):
                tasks += filter(None, [self.synthesis(content.sha256)])
            if tasks:
                failed_before = any(planned.record.state is ChunkState.FAILED for planned in chunks)
                yield Due(tuple(tasks), self._requests(chunks, known, failed_only), failed_before)

    def unproven(self) -> Iterator[Chunk]:
        """The answered chunks of the files whose quotes nobody has looked for."""
        unproven = self.ledger.unproven(pdf.PROVER)
        if unproven:
            known, plan = self.records(), self._planning()
            for content in self._distinct_contents():
                yield from (p.chunk for p in plan.chunks(content, known) if p.chunk.id in unproven)

    def parts(self, chunk: Chunk, split_after: int | None) -> tuple[PlannedChunk, ...]:
        """The chunks that take the place of one, cut after a page or in the middle; none for a single page."""
        parts = planner.parts(chunk, self.fingerprint, split_after)
        return planner.planned(parts, self.fingerprint, _Records(self))

    def synthesis(self, content: str) -> Synthesis | None:
        """The request that joins the summaries of a content whose chunks are all answered, if it is due."""
        chunks = self._planning().chunks(self.contents[content], _Records(self))
        synthesis = self._synthesis(chunks)
        if synthesis is None or self.record(synthesis.id).state is ChunkState.ANSWERED:
            return None
        return synthesis

    def plan(self, files_before: Mapping[str, SourceFile], prices: PriceList) -> Iterator[PlannedDocument]:
        """What a run would do for each file, and why. ``files_before`` are those of the last run."""
        known, answered, plan = self._as_a_run_finds_it(), self.ledger.answered_contents(), self._planning()
        paid: set[str | None] = {None}
        for file in self.files:
            content = self.contents.get(file.sha256) if file.sha256 else None
            chunks = plan.chunks(content, known) if content else ()
            before = files_before.get(file.path)
            why = planner.why(
                chunks,
                content_changed=before is not None and before.sha256 != file.sha256,
                content_answered=file.sha256 in answered,
            )
            is_twin = file.sha256 in paid
            paid.add(file.sha256)
            requests = () if is_twin else self._requests(chunks, known, failed_only=False)
            due = [] if is_twin else [p.chunk for p in chunks if planner.is_due(p.record, failed_only=False)]
            if requests and why is Why.UNCHANGED:
                why = Why.UNFINISHED  # all but the summary of the whole
            yield PlannedDocument(
                file.path,
                why,
                reason=file.problem or (content.problem if content else None),
                chunks=len(due),
                pages=sum(len(chunk.pages) for chunk in due),
                usage=sum(requests, Usage()),
                cost_usd=prices.total_usd(self.job.endpoint.model, requests),
            )

    def results(self, run: str) -> tuple[tuple[DocumentResult, ...], frozenset[str]]:
        """Every file's result, and the models that gave their answers, by their own word.

        A file is unchanged when ``run`` sent nothing for it.
        """
        plan, sent = self._planning(), self.ledger.contents_sent_in(run)
        records = _Records(self)
        retry = shlex.join(("docpipe", "retry", self.job.argument, "--endpoint", self.job.endpoint.use))
        merged: dict[str, DocumentResult] = {}
        results = []
        models: set[str | None] = set()
        for file in self.files:
            if file.sha256 in merged:  # a twin: the same but for its name
                results.append(replace(merged[file.sha256], path=file.path))
                continue
            content = self.contents.get(file.sha256) if file.sha256 else None
            chunks = plan.chunks(content, records) if content else ()
            synthesis = self._synthesis(chunks)
            record = records[synthesis.id] if synthesis else None
            unchanged = file.sha256 not in sent
            result = aggregator.merge(Reading(file, content, chunks, record, unchanged, self.job.fields, retry))
            if result.status is not DocumentStatus.DONE:
                result = replace(result, unchanged=False)
            models.update(planned.record.model for planned in chunks)
            models.add(record.model if record else None)
            if file.sha256:
                merged[file.sha256] = result
            results.append(result)
        return tuple(results), frozenset(filter(None, models))

    def records(self) -> Mapping[str, ChunkRecord]:
        """Every chunk without its result, as it is now."""
        return {chunk: self._believed(record) for chunk, record in self.ledger.chunks().items()}

    def _as_a_run_finds_it(self) -> Mapping[str, ChunkRecord]:
        """The records once a run has begun: with ``on_lost = "hold"`` what was cut off counts as lost."""
        records = dict(self.records())
        if self.job.engine.on_lost == "hold":
            cut_off = (one for one in self.ledger.unended() if one.is_last)
            records |= {one.chunk.id: ChunkRecord(ChunkState.FAILED, FailureClass.LOST, one.reason) for one in cut_off}
        return records

    def record(self, chunk: str) -> ChunkRecord:
        """A chunk with its result."""
        return self._believed(self.ledger.full_record(chunk))

    def _believed(self, record: ChunkRecord) -> ChunkRecord:
        """A live endpoint is asked again for what only rules have answered, say in a trial with ``serve``."""
        if record.model != RULES_MODEL or self.job.endpoint.use in ("offline", "custom"):
            return record
        if record.state is ChunkState.ANSWERED:
            return _OPEN
        return replace(record, result=None, model=None, proof=None)  # that endpoint was asked, and this came of it

    def _requests(
        self, chunks: Sequence[PlannedChunk], known: Mapping[str, ChunkRecord], failed_only: bool
    ) -> tuple[Usage, ...]:
        """What each request for a content is expected to take: the chunks that are due, the summary of the whole."""
        due = [p for p in chunks if planner.is_due(p.record, failed_only)]
        requests = [planner.expected_usage(p.chunk) for p in due]
        left_out = any(p not in due and p.record.state is not ChunkState.ANSWERED for p in chunks)
        if self.job.prompt.synthesis and len(chunks) > 1 and not left_out:  # else there will be no whole
            synthesis = self._synthesis(chunks)
            if synthesis is None or planner.is_due(known.get(synthesis.id, _OPEN), failed_only):
                requests.append(planner.expected_synthesis_usage(len(chunks) * planner.SUMMARY_CHARACTERS))
        in_batch = len(requests) if self.job.endpoint.batch_retry == "batch" else len(due)
        return tuple(
            replace(usage, batch=self.job.endpoint.batch and number < in_batch) for number, usage in enumerate(requests)
        )

    def _distinct_contents(self) -> Iterator[Content]:
        for sha256 in dict.fromkeys(file.sha256 for file in self.files):
            if sha256 and (content := self.contents.get(sha256)):
                yield content

    def _planning(self) -> _Planning:
        split, endpoint = self.job.split, self.job.endpoint
        around_bytes = messages.largest_body(endpoint, self.job.prompt, fields=self.job.fields).size_bytes(0)
        room_bytes = max(split.max_request_bytes - around_bytes, 4)
        model = models.facts(endpoint.model)
        max_tokens = split.max_input_tokens or model.prompt_tokens
        limits = Limits(split.max_pages, split.overlap_pages, room_bytes // 4 * 3, max_tokens)
        return _Planning(limits, self.fingerprint, model)

    def _synthesis(self, chunks: Sequence[PlannedChunk]) -> Synthesis | None:
        """The synthesis of chunks that are all answered; without their summaries if the records have none."""
        if not self.job.prompt.synthesis or len(chunks) < 2:
            return None
        if any(planned.record.state is not ChunkState.ANSWERED for planned in chunks):
            return None
        content = chunks[0].chunk.content
        summaries = tuple((p.chunk.pages, (p.record.result or {}).get("summary", "")) for p in chunks)
        return Synthesis(messages.synthesis_id(content, tuple(p.chunk.id for p in chunks)), content, summaries)


@dataclass(frozen=True, slots=True)
class _Planning:
    """What decides on chunks, made once for many contents."""

    limits: Limits
    fingerprint: str
    model: Model

    def chunks(self, content: Content, known: Mapping[str, ChunkRecord]) -> tuple[PlannedChunk, ...]:
        return planner.chunks_of(content, self.limits, self.fingerprint, self.model, known)


class _Records(Mapping[str, ChunkRecord]):
    """The records with their results, read one by one as they are asked for."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __getitem__(self, chunk: str) -> ChunkRecord:
        return self._standing.record(chunk)

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("records are looked up, never listed")

    def __len__(self) -> int:
        raise NotImplementedError("records are looked up, never listed")
