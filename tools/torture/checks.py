"""What must hold between ledger, endpoint and report, whatever has happened.

Each check is a pure function that yields its complaints as sentences; none means that it holds.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.torture.books import Attempt, Books, Process, Request

Report = Mapping[str, Any]
Risks = Mapping[str, frozenset[tuple[Any, ...]]]
"""By path, what is reported as (page, title, quote)."""

Complaints = Iterator[str]

_REPORT_PAGE = Path(__file__).resolve().parents[2] / "docs" / "report.md"
_REPORT_FILES = re.compile(
    r"report\.json|index\.html|SUMMARY\.md|(risks|documents)\.csv|risks\.xlsx|documents|documents/[^/]+\.(html|md)"
)


# --- ledger and endpoint -----------------------------------------------------------------------------


def no_answer_lost(before: Books, after: Books) -> Complaints:
    """Every answer that the ledger had is still there, unchanged."""
    for chunk, answer in before.answers.items():
        if chunk not in after.answers:
            yield f"the answer of chunk {chunk[:12]} is gone"
        elif after.answers[chunk] != answer:
            yield f"the answer of chunk {chunk[:12]} has changed"


def ledger_is_sound(books: Books) -> Complaints:
    """A chunk is answered when its answer is there, and an answer has the attempt that brought it."""
    answered = {chunk.id for chunk in books.chunks.values() if chunk.state == "answered"}
    for chunk in answered ^ books.answers.keys():
        has = "an" if chunk in books.answers else "no"
        yield f"chunk {chunk[:12]} is {books.chunks[chunk].state} and has {has} answer"
    brought = {(a.chunk, a.request_id) for a in books.attempts if a.outcome == "answered"}
    for chunk, answer in books.answers.items():
        if (chunk, answer.request_id) not in brought:
            yield f"no attempt brought the answer of chunk {chunk[:12]}"


def nothing_unrecorded(
    books: Books, processes: Sequence[Process], requests: Sequence[Request], concurrency: int
) -> Complaints:
    """What was paid is on record, but for what was in flight when a process was cut; that has no end on record."""
    for process in processes:
        own = [attempt for attempt in books.attempts if attempt.run == process.run]
        asked = [request for request in requests if request.process == process.number]
        recorded = {attempt.request_id for attempt in own if attempt.status == 200}
        answered = {attempt.request_id for attempt in own if attempt.outcome == "answered"}
        missing = [request for request in asked if request.is_paid and request.request_id not in recorded]
        open_ended = sum(attempt.ended_at is None for attempt in own)
        name = f"process {process.number} (code {process.exit_code})"
        for request in asked:
            if request.is_good and request.request_id in recorded - answered:
                yield f"{name}: the good answer {request.request_id} was not taken for one"
        if open_ended > (concurrency if process.is_cut else 0):
            yield f"{name}: {open_ended} attempts have no end"
        if len(missing) > open_ended:
            yield f"{name}: {len(missing)} paid requests are not on record, {open_ended} were in flight"
        if len(asked) > len(own) or (len(asked) < len(own) and not process.is_cut):
            yield f"{name}: the endpoint saw {len(asked)} requests, the ledger has {len(own)}"


def nothing_paid_twice(
    books: Books, processes: Sequence[Process], requests: Sequence[Request], concurrency: int
) -> Complaints:
    """No good answer was asked for again, but where the one before was in flight when a process was cut."""
    chunk_of = dict(_chunks_asked(books, processes, requests))
    cut_off = Counter(attempt.chunk for attempt in books.attempts if attempt.ended_at is None)
    cuts = sum(process.is_cut for process in processes)
    good: dict[str, list[str]] = {}
    for request in requests:
        if request.is_good:
            good.setdefault(request.asked, []).append(request.request_id)
    for asked, answers in good.items():
        allowed = cut_off[chunk_of[asked]] if asked in chunk_of else cuts
        if len(answers) > 1 + allowed:
            yield f"paid {len(answers)} times, cut off {allowed} times: {', '.join(answers)}"
    doubles = sum(len(answers) - 1 for answers in good.values())
    if doubles > concurrency * cuts:
        yield f"{doubles} answers were paid again after {cuts} cuts at concurrency {concurrency}"


def nothing_held_is_sent_unasked(books: Books, processes: Sequence[Process]) -> Complaints:
    """Where the job holds what was cut off: only a ``retry`` sends a chunk again whose last attempt has no end."""
    runs = {process.run for process in processes if process.command == "run"}
    last: dict[str, Attempt] = {}
    for attempt in books.attempts:
        before = last.get(attempt.chunk)
        if before and before.ended_at is None and attempt.run in runs:
            yield f"chunk {attempt.chunk[:12]} was cut off as attempt {before.id}, and a run sent it as {attempt.id}"
        last[attempt.chunk] = attempt


def each_chunk_is_one_request(books: Books, processes: Sequence[Process], requests: Sequence[Request]) -> Complaints:
    """A chunk that is sent again carries the same document, and no other chunk does."""
    pairs = set(_chunks_asked(books, processes, requests))
    for name, number in Counter(chunk for _, chunk in pairs).items():
        if number > 1:
            yield f"chunk {name[:12]} was sent with {number} different documents"
    for name, number in Counter(asked for asked, _ in pairs).items():
        if number > 1:
            yield f"the document {name[:12]} was sent for {number} chunks"


def _chunks_asked(books: Books, processes: Sequence[Process], requests: Sequence[Request]) -> Iterator[tuple[str, str]]:
    """What was asked with the chunk it was asked for, as far as the ledger knows the request."""
    chunk_of = {(attempt.run, attempt.request_id): attempt.chunk for attempt in books.attempts}
    run_of = {process.number: process.run or "" for process in processes}
    for request in requests:
        if chunk := chunk_of.get((run_of.get(request.process, ""), request.request_id)):
            yield request.asked, chunk


# --- report ------------------------------------------------------------------------------------------


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "1": lambda value: value == 1,
    "text": lambda value: isinstance(value, str),
    "time": lambda value: isinstance(value, str),
    "text or null": lambda value: value is None or isinstance(value, str),
    "whole number": lambda value: type(value) is int,
    "whole number or null": lambda value: value is None or type(value) is int,
    "number or null": lambda value: value is None or type(value) in (int, float),
    "true or false": lambda value: isinstance(value, bool),
    "list of texts": _are_texts,
    "list of texts or null": lambda value: value is None or _are_texts(value),
    "list of `[first, last]`": lambda value: all(type(page) is int for first, last in value for page in (first, last)),
}


def documented_keys() -> dict[str, str]:
    """The keys of report.json as docs/report.md lists them, each with the word for its type."""
    [section] = re.findall(r"^## report\.json$(.*?)^## ", _REPORT_PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([a-z_0-9.\[\]]+)` \| ([^|]+) \|.*\|$", section, re.MULTILINE)
    return {key: kind.strip() for key, kind in rows if key in ("schema", "job", "title", "undrawn") or "." in key}


def shape_is_documented(report: Report) -> Complaints:
    """It has the documented keys, no other, and values of their types."""
    kinds = documented_keys()
    seen: set[str] = set()
    for key, value in _leaves(report, ""):
        below = {documented for documented in kinds if documented.startswith((f"{key}.", f"{key}[]"))}
        seen |= below or {key}
        if below and value in ([], None):
            continue  # an empty list, or an object that is null
        if key not in kinds:
            yield f"report.json has the key {key}, which is not documented"
        elif not _TYPES.get(kinds[key], lambda value: True)(value):
            yield f"report.json: {key} is {value!r}, not {kinds[key]}"
    for key in kinds:
        if "[]" not in key and key not in seen:
            yield f"report.json lacks {key}"
    for number, document in enumerate(report["documents"]):
        lacking = {k.split(".")[1].split("[")[0] for k in kinds if k.startswith("documents[].")} - document.keys()
        if lacking:
            yield f"report.json: document {number} lacks {', '.join(sorted(lacking))}"


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from _leaves(item, f"{place}[]")
    else:
        yield place, value


def report_agrees_with_ledger(report: Report, books: Books) -> Complaints:
    """The report of the last run says what the ledger says: its end, chunks, requests, tokens and money."""
    run = books.runs[-1]
    if run.finished_at is not None:  # else it was killed between the report and this row
        for key in ("finished_at", "status", "exit_code"):
            yield from _differs(f"run.{key}", report["run"][key], getattr(run, key))
    for document in report["documents"]:
        for chunk in document["chunks"]:
            attempts = [attempt for attempt in books.attempts if attempt.chunk == chunk["id"]]
            known = books.chunks.get(chunk["id"])
            where = f"{document['path']} {chunk['first_page']}-{chunk['last_page']}"
            yield from _differs(f"{where} status", chunk["status"], known.state if known else "open")
            yield from _differs(f"{where} attempts", chunk["attempts"], len(attempts))
            if known:
                pages = known.content, known.first_page, known.last_page
                yield from _differs(where, (document["sha256"], chunk["first_page"], chunk["last_page"]), pages)
            if answer := books.answers.get(chunk["id"]):
                yield from _differs(f"{where} request", chunk["request_id"], answer.request_id)
    yield from _totals_agree(report, books)


def _totals_agree(report: Report, books: Books) -> Complaints:
    documents, totals = report["documents"], report["totals"]
    own = [attempt for attempt in books.attempts if attempt.run == report["run"]["id"]]
    again = [attempt for attempt in own if _earlier(attempt, books)]
    sent = {books.chunks[attempt.chunk].content for attempt in own}
    covered = sum((d["pages"] or 0) - sum(last - first + 1 for first, last in d["missing_pages"]) for d in documents)
    wanted: dict[str, Any] = {
        "documents": len(documents),
        **{status: sum(d["status"] == status for d in documents) for status in ("done", "partial", "failed")},
        "unchanged": sum(d["status"] == "done" and d["sha256"] not in sent for d in documents),
        "pages": sum(d["pages"] or 0 for d in documents),
        "pages_covered": covered,
        "chunks": len({chunk["id"] for d in documents for chunk in d["chunks"]}),
        "requests": len(own),
        "retries": len(again),
        "chunks_recovered": sum(
            a.outcome == "answered" and any(e.outcome not in (None, "answered") for e in _earlier(a, books))
            for a in own
        ),
    }
    kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    for number, name in enumerate(kinds):
        wanted[name] = sum(attempt.tokens[number] or 0 for attempt in own)
    for name, value in wanted.items():
        yield from _differs(f"totals.{name}", totals[name], value)
    for name, attempts in (("cost_usd", own), ("retry_cost_usd", again)):
        cost_usd, shown = _cost_usd(attempts), totals[name]
        if (cost_usd is None) != (shown is None) or not math.isclose(cost_usd or 0.0, shown or 0.0, abs_tol=1e-9):
            yield f"totals.{name} is {shown!r}, by the ledger {cost_usd!r}"
    risks = Counter(risk["severity"] for d in documents for risk in d["risks"])
    yield from _differs("totals.risks", {k: v for k, v in totals["risks"].items() if v}, dict(risks))


def _earlier(attempt: Attempt, books: Books) -> list[Attempt]:
    return [other for other in books.attempts if other.chunk == attempt.chunk and other.id < attempt.id]


def _cost_usd(attempts: Sequence[Attempt]) -> float | None:
    """Unknown as soon as one that may have been billed is: an answer without a price, or one cut off."""
    for attempt in attempts:
        may_be_billed = attempt.ended_at is None or attempt.may_be_billed or attempt.tokens[0] is not None
        if may_be_billed and attempt.cost_usd is None:
            return None
    return sum(attempt.cost_usd or 0.0 for attempt in attempts)


def _differs(what: str, shown: Any, wanted: Any) -> Complaints:
    if shown != wanted:
        yield f"{what} is {shown!r} in the report, {wanted!r} in the ledger"


def every_page_is_accounted_for(report: Report, books: Books, folder: Mapping[str, int | None]) -> Complaints:
    """Each file of ``folder`` (pages by path) stands in the report once, and answered and missing pages make it up.

    Done means that every page has an answer in the ledger.
    """
    if (listed := Counter(document["path"] for document in report["documents"])) != Counter(list(folder)):
        yield f"the report lists {sorted(listed.elements())}, the folder holds {sorted(folder)}"
    for document in report["documents"]:
        name, pages = document["path"], document["pages"]
        answered = [
            page
            for chunk in document["chunks"]
            if chunk["id"] in books.answers
            for page in range(chunk["first_page"], chunk["last_page"] + 1)
        ]
        missing = [page for first, last in document["missing_pages"] for page in range(first, last + 1)]
        if pages is not None and pages != folder.get(name):
            yield f"{name} has {folder.get(name)} pages, the report says {pages}"
        if sorted(answered + missing) != list(range(1, (pages or 0) + 1)):
            yield f"{name}: answered {answered} and missing {missing} are not its pages"
        is_whole = pages is not None and not missing
        if (document["status"] == "done") != is_whole:
            yield f"{name} is {document['status']} with {len(missing)} of {pages} pages missing"
        if document["status"] != "done" and not document["reason"]:
            yield f"{name} is {document['status']} without a reason"


def risks_of(report: Report) -> Risks:
    """What a report says of each document."""
    return {
        document["path"]: frozenset((risk["page"], risk["title"], risk["quote"]) for risk in document["risks"])
        for document in report["documents"]
    }


def findings_are_undisturbed(report: Report, undisturbed: Risks) -> Complaints:
    """Trouble may delay findings, never change them: what is done has all of them, the rest has no others."""
    done = {document["path"] for document in report["documents"] if document["status"] == "done"}
    for path, risks in risks_of(report).items():
        if path in done and (gone := undisturbed[path] - risks):
            yield f"{path} lacks {sorted(gone)}"
        if new := risks - undisturbed[path]:
            yield f"{path} has {sorted(new)}, which an undisturbed run has not"


def report_is_of(report: Report | None, process: Process) -> Complaints:
    """The report is that of the process's run, tells its code, and calls it complete only if every document is done."""
    if report is None or report["run"]["id"] != process.run:
        yield f"process {process.number} ended with code {process.exit_code} without a report of its own"
        return
    if report["run"]["exit_code"] != process.exit_code:
        yield f"process {process.number} ended with {process.exit_code}, its report says {report['run']['exit_code']}"
    is_whole = all(document["status"] == "done" for document in report["documents"])
    if process.exit_code in (0, 3) and is_whole != (process.exit_code == 0):
        are = "are" if is_whole else "are not"
        yield f"process {process.number} ended with {process.exit_code}, its documents {are} done"


def nothing_left_over(reports: Path, ledger: Path) -> Complaints:
    """A run that came to its end leaves no temporary file and no cut chunk behind."""
    for path in reports.rglob("*"):
        name = path.relative_to(reports).as_posix()
        if not _REPORT_FILES.fullmatch(name):
            yield f"{name} was left in the report folder"
    if ledger.with_name(f"{ledger.name}.spool").exists():
        yield "the spool was left"


def code_is_explained(process: Process, allowed: Collection[int]) -> Complaints:
    """The process ended with one of the codes that what happened to it allows."""
    if process.exit_code not in allowed:
        codes = ", ".join(map(str, sorted(allowed)))
        yield f"process {process.number} ended with code {process.exit_code}, allowed are {codes}"
