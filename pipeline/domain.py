"""The frozen values that the parts hand to each other.

Pages are those of the original document, counted from 1, and ranges include both ends, unless a
docstring says otherwise. Sizes are bytes, times are seconds or ISO 8601 in UTC, money is US dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pipeline.fields import FieldType, ResultField


class Severity(StrEnum):
    """How bad a risk is, worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for critical up to 3 for low: sorts the worst first."""
        return list(Severity).index(self)


class QuoteCheck(StrEnum):
    """Whether a quote stands where the model says."""

    VERIFIED = "verified"
    PAGE_CORRECTED = "page_corrected"
    ALTERED = "altered"
    NOT_FOUND = "not_found"
    NOT_CHECKABLE = "not_checkable"


class FailureClass(StrEnum):
    """Why a request brought no answer; decides what happens next."""

    TRANSIENT = "transient"  # tried again, in this run and the next
    TOO_LARGE = "too_large"  # the chunk is halved
    DOCUMENT = "document"  # halved until the bad page stands alone
    ACCOUNT = "account"  # the run stops; no document is to blame
    REFUSAL = "refusal"  # final for the chunk
    OURS = "ours"  # the API says that our request is wrong; final for the chunk
    LOST = "lost"  # it left, and nobody knows what became of it; perhaps billed, so only a person sends it again


class DocumentStatus(StrEnum):
    """How much of a document is answered."""

    DONE = "done"  # every page
    PARTIAL = "partial"  # some pages, or none yet and none that failed for good
    FAILED = "failed"  # no page, and there is a reason


@dataclass(frozen=True, slots=True, order=True)
class PageRange:
    """A run of pages, counted from 1, both ends included.

    Raises:
        ValueError: the range is empty or begins before page 1.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise ValueError(f"not a page range: {self.first}-{self.last}")

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def label(self) -> str:
        """``page 7`` or ``pages 7-9``, for people."""
        return f"page {self}" if self.first == self.last else f"pages {self}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that the scanner found.

    ``path`` is relative to the source folder in POSIX form; bytes that are not UTF-8 stand in it as
    lone surrogates (PEP 383), so that ``os.fsencode`` gives the name on disk back.
    ``sha256`` is None when the file could not be read; then ``problem`` says why. Without one too, it lies behind a
    URL and is still to be read. ``etag`` is what its store calls this version of it; None where it does not, and of
    a file on a disk.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str | None
    problem: str | None = None
    etag: str | None = None

    @property
    def is_unread(self) -> bool:
        """Whether nobody has tried to read it."""
        return self.sha256 is None and self.problem is None


class MediaType(StrEnum):
    """What a file is."""

    PDF = "application/pdf"
    JPEG = "image/jpeg"
    PNG = "image/png"
    GIF = "image/gif"
    WEBP = "image/webp"
    TIFF = "image/tiff"  # may hold many pages; the API does not take it


@dataclass(frozen=True, slots=True)
class Layout:
    """What was seen on the pages of a file; empty where nobody looked.

    ``text_chars`` has the characters in the text layer of each page, ``scans`` the pages that are pictures
    without one, ``bookmarks`` the pages to which the bookmarks of the top level lead, in order.
    """

    text_chars: tuple[int, ...] = ()
    scans: tuple[int, ...] = ()
    bookmarks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What one distinct sequence of bytes turned out to be.

    ``pages`` is None when the bytes could not be opened; then ``problem`` says why. With pages, a ``problem``
    says that there were more, which are lost: such a document is never done. ``encrypted``
    files open with a known password, or an empty one, and are sent decrypted. ``note`` is what a reader of
    the report must know of how it was opened, such as a repair. ``media_type`` is what the bytes are,
    whatever the file's name says; PDF where nobody can tell.
    """

    sha256: str
    size_bytes: int
    pages: int | None
    encrypted: bool = False
    problem: str | None = None
    note: str | None = None
    layout: Layout = Layout()
    media_type: MediaType = MediaType.PDF


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of pages of one content, sent as one request. ``id`` is the key of its paid answer.

    ``input_tokens`` are those that its pages are expected to come to.
    """

    id: str
    content: str
    pages: PageRange
    input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Synthesis:
    """One text-only request that turns the chunk summaries of a content into one.

    ``summaries`` are in page order.
    """

    id: str
    content: str
    summaries: tuple[tuple[PageRange, str], ...]


Task = Chunk | Synthesis


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request as the API billed them; cache tokens are not part of ``input_tokens``.

    ``batch``: by the API's word, billed at the price of batches.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    batch: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.batch and other.batch,
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one request went on the wire. ``status`` is None when no response began, or nothing was sent.

    ``request_id`` is the one of the HTTP exchange, ``message_id`` that of the message that came, where one did.
    ``requests_per_minute`` is the limit that the response named. ``sent``: the whole request had left.
    """

    status: int | None = None
    request_id: str | None = None
    latency_s: float = 0.0
    model: str | None = None
    usage: Usage | None = None
    requests_per_minute: int | None = None
    sent: bool = False
    message_id: str | None = None

    @property
    def may_be_billed(self) -> bool:
        """Whether it can have cost something without a count of tokens: an answer was begun, or none awaited."""
        return self.status == 200 or (self.status is None and self.sent)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that fits what was asked for.

    ``result`` is the JSON object as the model gave it; its pages count inside the chunk, from 1.
    ``note`` says what was sent in the pages' place, where it was not they.
    """

    result: Mapping[str, Any]
    exchange: Exchange
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that brought no answer, and why.

    ``retry_after_s`` is what the server asked for, infinite when no wait in this run would help.
    ``output_refused``: the endpoint did not take ``output_config``; asking in words may work.
    ``output_cut``: the answer needs a larger ``max_tokens``. ``retries_first``: so many more tries on the
    same bytes come before what the class calls for. ``slow_down``: the server gets too much, from all
    workers together; ``rate_limited``: by its own count (429), not because it is overloaded (529).
    ``elsewhere``: the endpoint had no part in it, as with a file that changed or a host that died.
    """

    kind: FailureClass
    reason: str
    exchange: Exchange = Exchange()
    retry_after_s: float | None = None
    output_refused: bool = False
    output_cut: bool = False
    retries_first: int = 0
    slow_down: bool = False
    rate_limited: bool = False
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """The chunk is too large for one request; nothing was sent. Its parts take its place.

    With ``after``, a page, the first part ends there, and ``payload`` is that part, ready to be sent.
    """

    reason: str
    after: int | None = None
    payload: Payload | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One page as an image file of so many bytes, before base64."""

    media_type: MediaType
    size_bytes: int

    @property
    def base64_bytes(self) -> int:
        """Its size in a request."""
        return (self.size_bytes + 2) // 3 * 4


@dataclass(frozen=True, slots=True)
class Payload:
    """The file that a request carries in base64; ``path`` is None for one of text alone.

    ``spooled_bytes``: the size of a copy of our own, deleted once it was sent; 0 for the original.
    ``pictures`` are the images that lie in the file one after the other, one for each page; none: it is a PDF.
    ``note`` says what stands in the pages' place, where it is not they. ``host`` is the one where the file lies.
    """

    path: Path | None
    spooled_bytes: int = 0
    pictures: tuple[Picture, ...] = ()
    note: str | None = None
    host: str = ""


Outcome = Answer | Failure


class ChunkState(StrEnum):
    """What the ledger knows of a chunk."""

    OPEN = "open"  # not answered yet and not to blame: never sent, cut off, or the account's trouble
    ANSWERED = "answered"  # the answer is on disk
    FAILED = "failed"
    SPLIT = "split"  # its two halves stand for it


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A chunk as the ledger has it.

    ``result`` is there when ``state`` is ANSWERED. ``reason``: why it failed; of an answered one, what was
    sent in its pages' place, where it was not they. One that is SPLIT was cut after the page
    ``split_after``, or in the middle. ``proof`` is None as long as nobody looked for the quotes of its answer.
    """

    state: ChunkState
    failure: FailureClass | None = None
    reason: str | None = None
    attempts: int = 0
    request_id: str | None = None
    result: Mapping[str, Any] | None = None
    model: str | None = None
    split_after: int | None = None
    proof: ChunkProof | None = None


@dataclass(frozen=True, slots=True)
class KeyDate:
    """A date that matters, as written in the document."""

    date: str
    meaning: str
    page: int | None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a page as it is shown, turned and cropped: shares of its width and height from the top left."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A page as it is shown, small, for people to look at: a WebP file."""

    data: bytes
    width_px: int
    height_px: int


class Change(StrEnum):
    """How something differs from the last run that came to its end."""

    NEW = "new"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Before:
    """What a changed risk was in the last run that came to its end; ``page`` as in ``Risk``."""

    severity: Severity
    page: int | None
    quote: str


@dataclass(frozen=True, slots=True)
class Risk:
    """One thing to watch. ``page`` is None when the model named a page that does not exist.

    ``quote_check`` is None as long as the quote was not looked for. ``named_page`` is the page that the model
    named where the quote stands on another; ``found`` are the words that stand there where they differ from the
    quote; ``boxes`` are where the quote, or ``found``, stands on ``page``, a box for each line.
    ``own_check``: docpipe saw it, whatever the model says. ``id`` stays the same from run to run as long as
    it is the same risk; ``change`` is None for one that is as it was, or when there is nothing to compare with.
    ``before`` is what a changed one was.
    """

    title: str
    category: str
    severity: Severity
    page: int | None
    quote: str
    explanation: str
    recommendation: str
    quote_check: QuoteCheck | None = None
    named_page: int | None = None
    found: str = ""
    boxes: tuple[Box, ...] = ()
    own_check: bool = False
    id: str = ""
    change: Change | None = None
    before: Before | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What an answer says stands in a document: a quote, and its page, None when it named one that does not exist."""

    page: int | None
    quote: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of a claim, as in ``Risk``; ``page`` is where it stands, or else the named one."""

    check: QuoteCheck
    page: int | None
    found: str = ""
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class ChunkProof:
    """What was found of the claims of a chunk, in the order of its answer's risks.

    ``planted`` are risks that docpipe itself saw on its pages.
    """

    proofs: tuple[Proof, ...]
    planted: tuple[Risk, ...] = ()

    @classmethod
    def not_checkable(cls, claims: Iterable[Claim]) -> Self:
        """That of a document whose texts cannot be read, also where the reader crashed over it."""
        return cls(tuple(Proof(QuoteCheck.NOT_CHECKABLE, claim.page) for claim in claims))


@dataclass(frozen=True, slots=True)
class FieldValue:
    """What the answers say for one of the job's own fields.

    ``value`` is None where none says anything; one of type ``list`` is then empty. ``pages`` are those of the
    chunks whose answers gave it: a range of one page names the page.
    """

    name: str
    type: FieldType
    value: str | float | bool | tuple[str, ...] | None
    pages: tuple[PageRange, ...] = ()


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """One chunk of one document, as the report shows it; ``reason`` as in ``ChunkRecord``.

    ``is_unreadable``: it failed before anything was sent, since its pages cannot be taken from the file.
    """

    id: str
    pages: PageRange
    status: ChunkState
    attempts: int
    reason: str | None
    request_id: str | None
    is_unreadable: bool = False


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """What is known of one document after merging its chunks.

    ``pages`` is None when the file could not be opened. ``missing_pages`` are the pages without an
    answer. ``summary_note`` says why the summary is only the joined chunk summaries, where that is so.
    ``unchanged``: the run sent nothing for it. ``unfinished_runs``: so many runs in a row, this one
    included, came to their end without it being done, or to the end of an API that gave no answer.
    ``note`` is the content's. ``change`` compares the bytes with those of the last run that came to its end;
    ``recovered``: it was not done then and is now; ``gone_risks`` were reported then and are not now.
    ``fields`` has each of the job's own fields, in its order. ``is_damaged``: pages are missing, or may be, because
    they are missing in the file, which was opened all the same.
    """

    path: str
    sha256: str | None
    size_bytes: int
    pages: int | None
    status: DocumentStatus
    reason: str | None
    missing_pages: tuple[PageRange, ...]
    summary: str
    summary_note: str | None
    document_type: str
    parties: tuple[str, ...]
    key_dates: tuple[KeyDate, ...]
    risks: tuple[Risk, ...]
    chunks: tuple[ChunkResult, ...]
    unchanged: bool
    unfinished_runs: int = 0
    note: str | None = None
    change: Change | None = None
    recovered: bool = False
    gone_risks: tuple[Risk, ...] = ()
    fields: tuple[FieldValue, ...] = ()
    is_damaged: bool = False

    @property
    def is_unopened(self) -> bool:
        """Whether it is left to a later run to open it; one that cannot be opened has failed."""
        return self.pages is None and self.status is DocumentStatus.PARTIAL

    @property
    def pages_covered(self) -> int:
        """How many pages are answered."""
        return (self.pages or 0) - sum(len(r) for r in self.missing_pages)


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A Message Batch of which results are still to come.

    ``id`` is ours, and ``name`` the API's, None when it is not known whether the API has it. ``account`` is a hash
    of address and key. ``begun_at`` is ISO 8601 in UTC; ``status`` is the API's last word. ``requests`` is how many
    it was sent with.
    """

    id: str
    account: str
    begun_at: str
    requests: int
    name: str | None = None
    status: str | None = None


class RunStatus(StrEnum):
    """How a run ended; RUNNING in the ledger of a dead process means that it was killed."""

    RUNNING = "running"
    COMPLETE = "complete"  # every page of every document is answered
    INCOMPLETE = "incomplete"  # finished, but some documents are partial or failed
    STOPPED = "stopped"  # ended before its work was done: interrupted, account, budget, API down


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run. Times are ISO 8601 in UTC. ``stopped_because`` is the one line for a STOPPED run.

    ``fingerprint`` is that of its requests: answers for another one are not what it asked for.
    """

    id: str
    started_at: str
    finished_at: str
    status: RunStatus
    exit_code: int
    endpoint: str
    model: str
    version: str
    fingerprint: str = ""
    stopped_because: str | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run's requests came to. None means that a price is unknown, never that it was free.

    ``retries`` are the requests for chunks that an earlier one brought no answer for, and ``retry_cost_usd`` is
    their cost. ``chunks_recovered`` are those that were answered after a failure. ``known_usd`` is the cost of all
    but ``unpriced`` requests, of which nobody knows what they were billed.
    """

    requests: int = 0
    retries: int = 0
    chunks_recovered: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = 0.0
    retry_cost_usd: float | None = 0.0
    known_usd: float = 0.0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run was expected to spend before it sent anything; the cost is None when a price is unknown."""

    usage: Usage
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What this run is compared with: the last one before it that came to its end, at ``finished_at``.

    ``removed`` are the paths of documents that were there then and are not now, nor under another name.
    ``same_request``: it asked the same model in the same words; else a difference may be the reader's.
    """

    run: str
    finished_at: str
    removed: tuple[str, ...] = ()
    same_request: bool = True


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the last run that came to its end reported of one document.

    ``sha256`` and ``pages`` are the last known. ``risks`` have what ``gone_risks`` show of them; those on pages
    without an answer, reported by an earlier run from the same bytes, are among them. ``carried`` were reported
    from other bytes, and what was read of these does not tell whether they are still there.
    """

    path: str
    sha256: str | None
    pages: int | None
    status: DocumentStatus
    risks: tuple[Risk, ...]
    carried: tuple[Risk, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What a run that came to its end reported: its ``documents`` by path. ``fingerprint`` is that of its requests."""

    run: str
    finished_at: str
    fingerprint: str
    documents: Mapping[str, Remembered]


@dataclass(frozen=True, slots=True)
class ToRemember:
    """Where a run differs from the memory that it was compared with: ``documents``, and paths that are ``removed``.

    ``by_rules``: the built-in rules read, whose reports and a model's are remembered apart.
    """

    by_rules: bool
    documents: tuple[Remembered, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunResult:
    """Everything that the reports show; each renderer is a pure function of it.

    ``documents`` are sorted by path. ``expected`` is None when nothing was due. ``compared`` is None when no
    run came to its end before. ``originals`` is the way from the report's folder to the source folder, in POSIX
    form; "" where it is not known. ``argument`` is the job as commands name it: a bare name or a path. ``fields`` are
    those that the job names itself.
    """

    job: str
    title: str
    run: RunInfo
    spending: Spending
    documents: tuple[DocumentResult, ...]
    reads_with_rules: bool  # the built-in rules read the documents, not a model
    expected: Expected | None = None
    compared: Comparison | None = None
    originals: str = ""
    argument: str = ""
    fields: tuple[ResultField, ...] = ()


RULES_MODEL = "offline-rules-1"
"""The model name of answers that the built-in rules gave, so that they never pass for a model's.

Raise the number when the rules change: answers of older rules are then asked for again.
"""
