"""Which files a scan finds, which it leaves alone, and which it hashes again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain import SourceFile
from pipeline.errors import ExitCode, SettingsError
from pipeline.scanner import Scan, scan

ROOT = Path(__file__).resolve().parents[1]
PDFS = ("**/*.pdf",)


def scanned(
    folder: Path,
    include: tuple[str, ...] = PDFS,
    exclude: tuple[str, ...] = (),
    follow_links: bool = False,
    known: Mapping[str, SourceFile] | None = None,
) -> Scan:
    return scan(folder, include, exclude, follow_links, known or {})


def paths(result: Scan) -> list[str]:
    return [file.path for file in result.files]


def by_path(result: Scan) -> dict[str, SourceFile]:
    return {file.path: file for file in result.files}


def put(folder: Path, *names: str) -> None:
    """Files that each hold their own name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def test_files_are_sorted_by_path_with_size_time_and_hash(tmp_path: Path) -> None:
    """Whatever order the folder lists them in, files come sorted by path, each with its own facts."""
    put(tmp_path, "z.pdf", "sub/b.pdf", "a.pdf", "sub/deep/er/c.pdf")

    files = scanned(tmp_path).files

    assert [file.path for file in files] == ["a.pdf", "sub/b.pdf", "sub/deep/er/c.pdf", "z.pdf"]
    for file in files:
        facts = (tmp_path / file.path).stat()
        assert (file.size_bytes, file.mtime_ns) == (facts.st_size, facts.st_mtime_ns)
        assert file.sha256 == hashlib.sha256(file.path.encode()).hexdigest()
        assert file.problem is None


@pytest.mark.parametrize("pattern", ["**/*.pdf", "**/*.PDF", "SUB/*.pdf", "*/A.{pdf,docx}"])
def test_patterns_ignore_case(tmp_path: Path, pattern: str) -> None:
    """A pattern matches a name in any case, in folders too."""
    put(tmp_path, "sub/a.PdF")

    assert paths(scanned(tmp_path, (pattern,))) == ["sub/a.PdF"]


def test_a_pattern_without_two_stars_stays_in_its_folder(tmp_path: Path) -> None:
    """``*.pdf`` means the source folder alone."""
    put(tmp_path, "a.pdf", "sub/b.pdf")

    assert paths(scanned(tmp_path, ("*.pdf",))) == ["a.pdf"]


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.pdf",
        ".git/x.pdf",
        "sub/.cache/deep/x.pdf",
        "~$x.pdf",
        ".~lock.x.pdf#",
        "x.pdf.part",
        "x.PDF.PART",
        "x.pdf.partial",
        "x.pdf.crdownload",
        "x.pdf.tmp",
        "x.pdf~",
    ],
)
def test_hidden_and_unfinished_files_never_match(tmp_path: Path, name: str) -> None:
    """Hidden files and folders, lock files and downloads under way are left out, whatever the pattern."""
    put(tmp_path, name, "seen.pdf")

    assert paths(scanned(tmp_path, ("**/*", "**/.*", "**/.*/**"))) == ["seen.pdf"]


@pytest.mark.parametrize(
    "name",
    [
        b"two  words .pdf",
        b'it\'s "quoted".pdf',
        b"line\nbreak.pdf",
        b"tab\tand\x1b[31mcolour.pdf",
        b"[a]{b}*?!(c).pdf",
        b"back\\slash.pdf",
        "Ünïcödé 合同 e\u0301.pdf".encode(),
        b"latin-1 \xe9\xff.pdf",
        b"x" * 246 + b".pdf",
        b"-rf.pdf",
    ],
)
def test_every_name_gives_the_bytes_on_disk_back(tmp_path: Path, name: bytes) -> None:
    """``os.fsencode`` of the path is the name on disk, in a folder of the same name too."""
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(b"content")

    (found,) = scanned(tmp_path).files

    assert os.fsencode(found.path) == name + b"/" + name
    assert found.sha256 == hashlib.sha256(b"content").hexdigest()


def test_exclude_wins_over_include(tmp_path: Path) -> None:
    """What an exclude pattern matches is left out, in any case."""
    put(tmp_path, "a.pdf", "Drafts/b.pdf", "sub/drafts/c.pdf", "sub/d-OLD.pdf")

    assert paths(scanned(tmp_path, exclude=("**/drafts/**", "**/*-old.pdf"))) == ["a.pdf"]


def test_links_that_are_not_followed_are_counted(tmp_path: Path) -> None:
    """A link to a matching file, also one that leads nowhere, is left out and counted; others are not counted."""
    put(tmp_path, "folder/a.pdf", "notes.txt")
    for name, target in (("b.pdf", "a.pdf"), ("nowhere.pdf", "gone"), ("notes-link.txt", "../notes.txt")):
        (tmp_path / "folder" / name).symlink_to(target)

    result = scanned(tmp_path)

    assert paths(result) == ["folder/a.pdf"]
    assert result.links_left_out == 2


def test_a_link_to_a_folder_that_is_not_followed_is_counted(tmp_path: Path) -> None:
    """A folder of PDFs behind a link is not left out in silence."""
    put(tmp_path, "elsewhere/a.pdf")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "archive").symlink_to(tmp_path / "elsewhere")

    assert scanned(tmp_path / "source").links_left_out == 1


def test_links_are_followed_when_asked(tmp_path: Path) -> None:
    """Linked files and folders are read under the link's path; a link that leads nowhere gets a reason."""
    put(tmp_path, "elsewhere/a.pdf")
    source = tmp_path / "source"
    source.mkdir()
    (source / "archive").symlink_to(tmp_path / "elsewhere")
    (source / "b.pdf").symlink_to(tmp_path / "elsewhere" / "a.pdf")
    (source / "c.pdf").symlink_to("gone")

    result = scanned(source, follow_links=True)

    assert paths(result) == ["archive/a.pdf", "b.pdf", "c.pdf"]
    assert result.files[0].sha256 == result.files[1].sha256 is not None
    assert result.files[2].problem == "the file cannot be read: No such file or directory"
    assert result.links_left_out == 0


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    """A link to a folder above and a link to itself end the scan all the same; each file comes once."""
    put(tmp_path, "sub/a.pdf")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "here").symlink_to(".")
    (tmp_path / "itself.pdf").symlink_to("itself.pdf")

    result = scanned(tmp_path, follow_links=True)

    assert paths(result) == ["itself.pdf", "sub/a.pdf"]
    assert result.files[0].sha256 is None
    assert result.files[0].problem is not None


def test_a_folder_named_like_a_pdf_is_entered(tmp_path: Path) -> None:
    """``x.pdf`` may be a folder; what lies in it counts, the folder does not."""
    put(tmp_path, "x.pdf/y.pdf")

    assert paths(scanned(tmp_path)) == ["x.pdf/y.pdf"]


CHILD = """
import json, os, sys
from pathlib import Path
from pipeline.scanner import scan
if os.geteuid() == 0:  # the superuser may read everything
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
files = scan(Path("."), ["**/*.pdf"], json.loads(sys.argv[1]), json.loads(sys.argv[2]), {}).files
print(json.dumps([[file.path, file.sha256 is not None, file.problem] for file in files]))
"""


def scanned_by_an_ordinary_user(folder: Path, exclude: tuple[str, ...] = (), follow_links: bool = False) -> list[Any]:
    """``[path, hashed, problem]`` of each file; the folder is the child's own, so that its parents do not matter."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(exclude), json.dumps(follow_links)],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: list[Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that everyone may read."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def test_a_named_pipe_gets_a_reason_and_does_not_hang(open_folder: Path) -> None:
    """Opening a pipe would wait for a writer for ever; it is not opened."""
    os.mkfifo(open_folder / "x.pdf")

    assert scanned_by_an_ordinary_user(open_folder) == [["x.pdf", False, "not a regular file"]]


@pytest.fixture
def closing(request: pytest.FixtureRequest) -> Callable[[Path, int], None]:
    """Takes rights away, and gives them back when the test is over so that the folder can be deleted."""

    def close(path: Path, mode: int) -> None:
        path.chmod(mode)
        request.addfinalizer(lambda: path.chmod(0o755))

    return close


def test_what_cannot_be_read_gets_a_reason(open_folder: Path, closing: Callable[[Path, int], None]) -> None:
    """A file or a folder without the right to read is in the result, and the rest is scanned."""
    put(open_folder, "good.pdf", "secret.pdf", "closed/x.pdf")
    closing(open_folder / "secret.pdf", 0o000)
    closing(open_folder / "closed", 0o000)

    assert scanned_by_an_ordinary_user(open_folder) == [
        ["closed/", False, "the folder cannot be read: Permission denied"],
        ["good.pdf", True, None],
        ["secret.pdf", False, "the file cannot be read: Permission denied"],
    ]


def test_a_folder_that_only_lists_its_names_gives_reasons(
    open_folder: Path, closing: Callable[[Path, int], None]
) -> None:
    """A folder that may be listed but not entered: its files and folders get their reasons."""
    put(open_folder, "listed/x.pdf", "listed/sub/y.pdf")
    closing(open_folder / "listed", 0o444)

    assert scanned_by_an_ordinary_user(open_folder) == [
        ["listed/sub/", False, "the folder cannot be read: Permission denied"],
        ["listed/x.pdf", False, "the file cannot be read: Permission denied"],
    ]


def test_it_gives_the_same_reasons_when_links_are_followed(
    open_folder: Path, closing: Callable[[Path, int], None]
) -> None:
    """A folder that may be listed but not entered does not end a scan that follows links."""
    put(open_folder, "listed/x.pdf", "listed/sub/y.pdf")
    closing(open_folder / "listed", 0o444)

    found = scanned_by_an_ordinary_user(open_folder, follow_links=True)

    assert [path for path, _, _ in found] == ["listed/sub/", "listed/x.pdf"]


def test_an_excluded_folder_needs_no_right_to_read(open_folder: Path, closing: Callable[[Path, int], None]) -> None:
    """A folder that the job excludes is no trouble when it cannot be read."""
    put(open_folder, "good.pdf", "private/x.pdf")
    closing(open_folder / "private", 0o000)

    assert scanned_by_an_ordinary_user(open_folder, exclude=("private/**",)) == [["good.pdf", True, None]]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The base names of the files that are hashed from now on."""
    names: list[str] = []
    digest = hashlib.file_digest

    def noted(file: Any, name: Any) -> Any:
        names.append(Path(os.fsdecode(file.name)).name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    return names


def test_only_files_whose_size_or_time_changed_are_hashed(tmp_path: Path, hashed: list[str]) -> None:
    """A second scan hashes what is new, longer or younger, and takes the known hash for the rest."""
    put(tmp_path, "same.pdf", "longer.pdf", "touched.pdf")
    first = by_path(scanned(tmp_path))
    assert sorted(hashed) == ["longer.pdf", "same.pdf", "touched.pdf"]
    hashed.clear()

    put(tmp_path, "new.pdf")
    longer = tmp_path / "longer.pdf"
    longer.write_bytes(b"more than before")
    os.utime(longer, ns=(first["longer.pdf"].mtime_ns,) * 2)
    os.utime(tmp_path / "touched.pdf", ns=(first["touched.pdf"].mtime_ns + 1,) * 2)
    second = by_path(scanned(tmp_path, known=first))

    assert sorted(hashed) == ["longer.pdf", "new.pdf", "touched.pdf"]
    assert second["same.pdf"] is first["same.pdf"]
    assert second["longer.pdf"].sha256 == hashlib.sha256(b"more than before").hexdigest()
    assert second["touched.pdf"].sha256 == first["touched.pdf"].sha256


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path, hashed: list[str]) -> None:
    """A known file without a hash is hashed although its size and time are the same."""
    put(tmp_path, "a.pdf")
    facts = (tmp_path / "a.pdf").stat()
    known = {"a.pdf": SourceFile("a.pdf", facts.st_size, facts.st_mtime_ns, None, "the file cannot be read")}

    (file,) = scanned(tmp_path, known=known).files

    assert hashed == ["a.pdf"]
    assert file.problem is None


def test_a_file_that_grows_while_it_is_read_gets_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash of half a file is no hash: the next run tries again."""
    put(tmp_path, "a.pdf")
    digest = hashlib.file_digest

    def grown(file: Any, name: Any) -> Any:
        with (tmp_path / "a.pdf").open("ab") as more:
            more.write(b"more")
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", grown)

    (file,) = scanned(tmp_path).files

    assert file.sha256 is None
    assert file.problem is not None
    assert "being written" in file.problem


def test_a_scan_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    """Nothing in the source folder is written, not even a time."""
    put(tmp_path, "a.pdf", "sub/b.pdf")
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}

    scanned(tmp_path)

    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


@pytest.mark.parametrize(("name", "words"), [("gone", "No such file"), ("a.pdf", "Not a directory")])
def test_a_source_that_is_no_folder_ends_the_run(tmp_path: Path, name: str, words: str) -> None:
    """A missing folder, or a file in its place, is a mistake in the settings and named."""
    put(tmp_path, "a.pdf")

    with pytest.raises(SettingsError, match=words) as caught:
        scanned(tmp_path / name)

    assert caught.value.exit_code is ExitCode.SETTINGS
    assert name in str(caught.value)


def test_an_empty_folder_is_an_empty_scan(tmp_path: Path) -> None:
    """No file is no error here."""
    assert scanned(tmp_path) == Scan((), 0)
