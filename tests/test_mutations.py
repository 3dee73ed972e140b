"""Broken PDFs by the hundred: each is refused with a reason, or cut into files that others open."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import splitter
from pipeline.domain import PageRange
from pipeline.pdf import Copied, Inspection, PdfError, Source
from pipeline.sandbox import Limits
from tools.corpus.breaking import Broken, break_all
from tools.corpus.mutations import mutated, with_true_table
from tools.corpus.originals import originals
from tools.corpus.trials import tried

FILES = 100
SEED = 1


@pytest.mark.parametrize("name", sorted(originals()))
def test_the_originals_are_sound(name: str, tmp_path: Path) -> None:
    """What is to be broken opens, and every page of it can be cut."""
    trial = tried(originals()[name], tmp_path)

    assert (trial.complaints, trial.uncut) == ((), 0)
    assert trial.pages in (2, 3, 4)
    assert list(tmp_path.iterdir()) == []


def test_no_broken_file_does_harm() -> None:
    """Pages or a reason; a chunk with exactly its pages or a reason that names one; the same twice; never long."""
    broken: list[Broken] = []

    asyncio.run(break_all(originals(), range(SEED, SEED + FILES), broken.append))

    assert [(b.seed, b.made, b.trial.complaints) for b in broken if b.trial.complaints] == []
    assert sorted(b.seed for b in broken) == list(range(SEED, SEED + FILES))
    # Else the mutations would have become too harmless or too hard to say anything.
    assert FILES / 4 < sum(b.trial.pages is not None for b in broken) < FILES * 9 / 10
    assert sum(b.trial.uncut > 0 for b in broken) > FILES / 20


def test_a_seed_gives_the_same_file_every_time() -> None:
    """So that a complaint can be looked into; and other seeds give other files."""
    files = [mutated(seed, originals()) for seed in range(30)]

    assert files == [mutated(seed, originals()) for seed in range(30)]
    assert len({data for _, data in files}) > 25


def test_a_true_table_leads_to_the_objects() -> None:
    """A file whose first bytes are gone opens by the table alone: each object is where it says."""
    data = originals()["page tree"]
    moved = with_true_table(data.replace(b"2 0 obj", b"%moved\n2 0 obj"))
    rows = moved[moved.rindex(b"\nxref\n") :].split(b"trailer")[0].splitlines()[4:]

    assert [moved[int(row[:10]) :].split(b" ")[0] for row in rows[1::2]] == [row.split()[0] for row in rows[::2]]


# That the trials see what they are there to see


SOUND = originals()["page tree"]


def complaints(folder: Path) -> str:
    return "\n".join(tried(SOUND, folder).complaints)


def test_another_exception_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither opening nor cutting may raise what is not foreseen."""

    def fails(*args: object) -> None:
        raise KeyError("/P")

    monkeypatch.setattr(splitter, "cut", fails)
    assert "cut pages 1-4: raised KeyError: '/P'" in complaints(tmp_path)
    monkeypatch.setattr(splitter, "inspect", fails)
    assert "inspect: raised KeyError: '/P'" in complaints(tmp_path)


@pytest.mark.parametrize("found", [Inspection(None), Inspection(0), Inspection(0, problem="broken")])
def test_neither_pages_nor_a_reason_is_seen(found: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inspection gives one of the two, or both where pages are lost."""
    monkeypatch.setattr(splitter, "inspect", lambda source: found)

    assert "inspect: neither pages nor a reason" in complaints(tmp_path)


@pytest.mark.parametrize(
    ("reason", "complaint"),
    [
        ("it is broken", "not a reason"),
        ("page 9 cannot be read: it is broken", "not a reason"),
        ("page 1 cannot be read: it\nis broken", "not a reason"),
        ("page 1 cannot be read: IndirectObject(3, 0, 139738945064464)", "an address in the reason"),
    ],
)
def test_a_bad_reason_is_seen(reason: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names a page of the range, on one line, in the same words each time."""

    def refuses(source: Source, pages: PageRange, target: Path) -> Copied:
        raise PdfError(reason)

    monkeypatch.setattr(splitter, "cut", refuses)

    assert complaint in complaints(tmp_path)


def test_a_bad_chunk_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with other pages, one that does not open, one that is not the same twice."""
    real_cut = splitter.cut

    def cuts_one(source: Source, pages: PageRange, target: Path) -> Copied:
        return real_cut(source, PageRange(1, 1), target)

    def breaks_off(source: Source, pages: PageRange, target: Path) -> Copied:
        copied = real_cut(source, pages, target)
        target.write_bytes(target.read_bytes()[:-60])
        return copied

    def knows_the_file(source: Source, pages: PageRange, target: Path) -> Copied:
        copied = real_cut(source, pages, target)
        target.write_bytes(target.read_bytes() + source.path.encode())
        return copied

    monkeypatch.setattr(splitter, "cut", cuts_one)
    assert "cut pages 1-4: 1 pages, 3 that pdfium cannot load" in complaints(tmp_path)
    monkeypatch.setattr(splitter, "cut", breaks_off)
    assert "cut page 2: does not re-open" in complaints(tmp_path)
    monkeypatch.setattr(splitter, "cut", knows_the_file)
    assert "page 3: not the same the second time" in complaints(tmp_path)


def test_a_hang_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sandbox says of a file is a complaint, and the next file is tried."""
    monkeypatch.setattr(Limits, "for_file", lambda limits, size_bytes: replace(limits, timeout_s=0.0001))
    broken: list[Broken] = []

    asyncio.run(break_all({"one": SOUND}, range(3), broken.append))

    assert [(b.trial.pages, b.trial.complaints) for b in broken] == [(None, ("reading it took more than 0 s",))] * 3


def test_what_nobody_has_foreseen_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a trial raises is a complaint, too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broken: list[Broken] = []

    def done(one: Broken) -> None:
        broken.append(one)
        for place in tmp_path.iterdir():
            shutil.rmtree(place)  # the next trial finds no place for its files

    asyncio.run(break_all({"one": SOUND}, range(2), done, processes=1))

    assert broken[0].trial.complaints == ()
    assert "FileNotFoundError" in broken[1].trial.complaints[0]
