"""``python -m tools.corpus``: that it sees what must not happen, and that no file ends it."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import splitter
from pipeline.domain import PageRange, SourceFile
from pipeline.pdf import Copied, Inspection, Source
from pipeline.sandbox import Limits, Sandbox, SandboxError
from tests.conftest import write_pdf
from tools.corpus import __main__ as corpus
from tools.corpus import by_pdfium, by_pypdf, table
from tools.corpus.by_pdfium import Seen
from tools.corpus.examination import Examiner, chunks, differences, kind_of
from tools.corpus.findings import Examined, Finding, Kind

ROOT = Path(__file__).resolve().parents[1]


class Here(Sandbox):
    """Runs the calls in this process, where a test can have them fail."""

    async def call(self, size_bytes: int, function: str, *args: object) -> Any:
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(*args)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A file of three pages."""
    return write_pdf(tmp_path / "docs" / "three.pdf", ["first page", "second page", "third page"])


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    yield
    splitter._close_held()


def examined(path: Path, pages_per_chunk: int = 20) -> Examined:
    """What is found out about a file, in this process."""
    facts = path.stat()
    file = SourceFile(path.name, facts.st_size, facts.st_mtime_ns, "0" * 64)
    with Here() as here:
        examiner = Examiner(here, here, path.with_suffix(".chunk"), pages_per_chunk, pictures=True)
        return asyncio.run(examiner.examine(path.parent, file))


def kinds(one: Examined) -> set[Kind]:
    return {finding.kind for finding in one.findings}


# The whole


def test_the_samples_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    """Through the real sandbox, pictures too: every page there is is cut the same, each refusal has its reason."""
    code = corpus.main([str(ROOT / "sample_docs"), "--pictures", "--json"])

    figures = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (figures["files"], figures["opened"], figures["findings"]) == (24, 21, [])
    assert figures["pages"] == 114  # one of them is lost with the end of its file
    assert figures["pages_cut"] == 113
    assert figures["pages_compared"] == 112  # other readers do not open that file
    assert sorted(group["reason"] for group in figures["not_opened"]) == [
        "a password is needed to open it",
        "not a PDF: the file holds an HTML page",
        "the file is empty",
    ]
    assert 0.9 < figures["chunk_bytes_per_source_byte"] < 1.1
    assert 20 < figures["peak_mb"] < 500
    assert len(figures["slowest"]) == 5


def test_twins_are_read_once_and_names_may_be_left_out(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files are those of a job; with --all those of any name."""
    shutil.copy(three, three.with_name("twin.pdf"))
    shutil.copy(ROOT / "sample_docs" / "trouble" / "good-contract.pdf", three.with_name("no name"))

    assert corpus.main([str(three.parent)]) == 0
    assert re.search(r"^files +1$", capsys.readouterr().out, re.MULTILINE)
    assert corpus.main([str(three.parent), "--all"]) == 0
    assert re.search(r"^files +2$", capsys.readouterr().out, re.MULTILINE)


def test_a_folder_that_is_not_there_is_a_mistake_in_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and code 2; the same without anything to do."""
    assert corpus.main([str(tmp_path / "gone")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(SystemExit, match="2"):
        corpus.main([])


def test_a_hang_ends_the_file_and_not_the_bench(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended by the sandbox, counted, and code 1."""
    write_pdf(three.with_name("other.pdf"), ["another"])
    monkeypatch.setattr(Limits, "for_file", lambda limits, size_bytes: replace(limits, timeout_s=0.0001))

    assert corpus.main([str(three.parent), "--json"]) == 1

    figures = json.loads(capsys.readouterr().out)
    assert (figures["files"], figures["hung"]) == (2, 2)
    assert figures["not_opened"][0]["reason"] == "reading it took more than N s"


def test_an_interrupt_prints_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """^C after some of the files: their figures, and code 130."""
    for number in range(8):
        write_pdf(tmp_path / f"{number}.pdf", [f"page of {number}"])
    monkeypatch.setattr(corpus, "_progress", lambda done, of: signal.raise_signal(signal.SIGINT) if done == 2 else None)

    assert corpus.main([str(tmp_path), "--json"]) == 130
    assert 2 <= json.loads(capsys.readouterr().out)["files"] < 8
    assert corpus.main(["--mutate", "500"]) == 130
    assert re.search(r"^broken files +\d\d?$", capsys.readouterr().out, re.MULTILINE)


# One file


def test_a_page_that_cannot_be_cut_is_told_and_the_others_are_cut(three: Path) -> None:
    """Halved as the program does; a refusal with a reason is no finding."""
    data = three.read_bytes()
    second = data.index(b"/Contents", data.index(b"/Contents") + 1)
    three.write_bytes(data[:second] + re.sub(rb"\d+", b"99", data[second : second + 15], count=1) + data[second + 15 :])

    one = examined(three)

    assert (one.pages, one.pages_cut, one.chunks, kinds(one)) == (3, 2, 2, set())
    assert one.uncut == [(2, "page 2 cannot be read: its content is missing")]


def cuts_others(source: Source, pages: PageRange, target: Path) -> Copied:
    return REAL_CUT(source, PageRange(pages.first % 3 + 1, pages.first % 3 + 1), target)


def cuts_less(source: Source, pages: PageRange, target: Path) -> Copied:
    return REAL_CUT(source, PageRange(pages.first, pages.last - 1), target)


def cuts_more(source: Source, pages: PageRange, target: Path) -> Copied:
    return REAL_CUT(source, PageRange(pages.first, pages.last + 1), target)


def breaks_off(source: Source, pages: PageRange, target: Path) -> Copied:
    copied = REAL_CUT(source, pages, target)
    target.write_bytes(target.read_bytes()[:-99])
    return copied


REAL_CUT = splitter.cut


@pytest.mark.parametrize(
    ("cut", "pages_per_chunk", "expected"),
    [
        (cuts_others, 1, {Kind.TEXT_DIFFERS: 3, Kind.PICTURE_DIFFERS: 3}),
        (cuts_less, 3, {Kind.LOST: 1}),
        (cuts_more, 2, {Kind.NOT_REOPENED: 1}),
        (breaks_off, 2, {Kind.NOT_REOPENED: 4}),
    ],
)
def test_a_wrong_cut_is_seen(
    cut: Any, pages_per_chunk: int, expected: dict[Kind, int], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other pages, fewer, more, or a file that does not open and has another size."""
    assert kinds(examined(three, pages_per_chunk)) == set()
    monkeypatch.setattr(splitter, "cut", cut)

    one = examined(three, pages_per_chunk)

    weights: Counter[Kind] = Counter()
    for finding in one.findings:
        weights[finding.kind] += finding.weight
    assert {kind: weights[kind] for kind in expected} == expected


def test_pages_that_were_not_counted_are_lost(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages behind the last one that we know of, if pdfium can load them."""
    monkeypatch.setattr(splitter, "inspect", lambda source: Inspection(2))

    one = examined(three)

    assert one.findings == [Finding(Kind.LOST, "pdfium finds 1 pages behind the last of 2", PageRange(3, 3))]


def test_what_nobody_has_foreseen_counts_as_a_crash(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception but a reason; it ends this file alone."""

    def fails(*args: object) -> None:
        raise KeyError("/P")

    monkeypatch.setattr(splitter, "cut", fails)
    assert {finding.detail for finding in examined(three).findings} == {"KeyError: '/P'"}
    monkeypatch.setattr(splitter, "inspect", fails)
    one = examined(three)
    assert (one.problem, kinds(one)) == ("KeyError: '/P'", {Kind.CRASHED})


def test_a_file_that_crashes_pdfium_is_opened_without_it(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a run does; it is a note and no finding."""

    def crashes(source: Source, with_layout: bool = True) -> Inspection:
        if with_layout:
            raise SandboxError("reading it crashed the PDF reader (exit code -6)")
        return Inspection(3)

    monkeypatch.setattr(splitter, "inspect", crashes)

    one = examined(three)

    assert (one.pages, kinds(one)) == (3, set())
    assert one.note == "opened without pdfium: reading it crashed the PDF reader (exit code -6)"


def test_the_words_of_the_sandbox_are_known() -> None:
    """A crash and the end of memory, told apart by what the sandbox really says."""

    async def calls() -> list[Kind]:
        told = []
        with Sandbox(1) as box:
            for function, argument in (("os:_exit", 7), ("builtins:bytearray", 2_100_000_000)):
                with pytest.raises(SandboxError) as caught:
                    await box.call(0, function, argument)
                told.append(kind_of(str(caught.value)))
        return told

    assert asyncio.run(calls()) == [Kind.CRASHED, Kind.OUT_OF_MEMORY]


def test_what_pdfium_cannot_open_is_not_compared(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted, with what pdfium says, and no finding."""
    real = by_pdfium.pages_seen

    def refuses(path: Path, pages: PageRange, pictures: bool) -> object:
        if path == three:
            raise ValueError("no data")
        return real(path, pages, pictures)

    monkeypatch.setattr(by_pdfium, "pages_seen", refuses)

    one = examined(three)

    assert (one.compared, one.uncompared, kinds(one)) == (0, {"pdfium: no data": 3}, set())


# Parts


def test_strict_pypdf_reads_every_object(three: Path) -> None:
    """Also those that no page needs."""
    data = three.read_bytes()
    assert by_pypdf.pages_of(three) == 3

    three.write_bytes(data.replace(b"/Producer", b"(Producer"))

    with pytest.raises(ValueError, match="Error"):
        by_pypdf.pages_of(three)


def test_pdfium_tells_pages_apart(three: Path) -> None:
    """By their words and by their pixels; a page that is not there is None, and no number is believed."""
    first, second, gone = by_pdfium.pages_seen(three, PageRange(2, 4), pictures=True)

    assert first is not None
    assert second is not None
    assert set(differences(first, second)) == {Kind.TEXT_DIFFERS, Kind.PICTURE_DIFFERS}
    assert set(differences(first, first)) == set()
    assert set(differences(Seen(first.text), first)) == set()  # the source was not drawn
    assert set(differences(first, gone)) == {Kind.NOT_REOPENED}
    three.write_bytes(three.read_bytes().replace(b"/Count 3", b"/Count 9"))
    assert (by_pdfium.pages_behind(three, 3), by_pdfium.pages_behind(three, 1)) == (0, 2)


def test_chunks_are_the_whole_document() -> None:
    """In order, and the last one may be shorter."""
    assert [str(pages) for pages in chunks(7, 3)] == ["1-3", "4-6", "7"]
    assert list(chunks(0, 3)) == []


def test_reasons_are_grouped_without_what_differs() -> None:
    """Numbers and words of the file are left out, so that the same trouble is counted together."""
    assert (
        table.normalised("page 3 cannot be read: Unexpected b'it\\'s' at 77")
        == "page N cannot be read: Unexpected '…' at N"
    )
    one, other, third = (
        Examined(name, 10, problem=reason) for name, reason in (("a", "at 1"), ("b", "at 2"), ("c", "no"))
    )

    assert table.summary([one, other, third])["not_opened"] == [
        {"count": 2, "reason": "at N", "example": "a"},
        {"count": 1, "reason": "no", "example": "c"},
    ]


def test_the_table_names_what_was_found() -> None:
    """File, page and what it was, made harmless for a terminal."""
    one = Examined("a\nb.pdf", 10, pages=2, note="pypdf counts 2 pages, pdfium 3")
    one.findings.append(Finding(Kind.TEXT_DIFFERS, "pdfium sees another page", PageRange(2, 2)))
    figures = table.summary([one])

    assert not table.is_clean(figures)
    printed = "\n".join(table.lines(figures))
    assert r"pages_whose_text_differs: a\nb.pdf page 2: pdfium sees another page" in printed
    assert "1 pypdf counts N pages, pdfium N" in printed


def test_nothing_is_a_table_too() -> None:
    """An empty folder, or an interrupt before the first file."""
    assert table.is_clean(table.summary([]))
    assert list(table.lines(table.summary([])))
    assert list(table.lines_of_trials([]))


def test_the_documentation_names_every_option_and_figure() -> None:
    """As the program has them."""
    page = (ROOT / "docs" / "corpus.md").read_text("utf-8")
    options = set(re.findall(r"--[a-z-]+", corpus.parser().format_help())) - {"--help"}

    assert options <= set(re.findall(r"--[a-z-]+", page))
    assert {kind.value.replace("_", " ") for kind in Kind} <= set(re.findall(r"\| ([a-z -]+) \|", page))
