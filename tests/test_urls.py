"""Source and report folders may be URLs: the same reports, little traffic, and words for whatever goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import batching, check, cli, job, storage
from pipeline.domain import DocumentStatus, QuoteCheck, RunStatus
from pipeline.errors import ExitCode, LedgerError, SettingsError
from pipeline.ledger import Ledger
from pipeline.storage import Url
from pipeline.verify import verify_job
from tests.buckets import ACCESS, SECRET, Bucket
from tests.conftest import Quiet, Workspace, clause, noisy_page, wait_until, write_pdf


def put(bucket: Bucket, workspace: Workspace, name: str, *pages: int) -> None:
    """A document of one clause a page, in the bucket and in the local folder."""
    path = write_pdf(workspace.docs / name, [clause(page) for page in pages])
    path.write_bytes(path.read_bytes().ljust(2000 * len(pages)))  # other pages, the same size
    bucket.put(f"docs/{name}", path.read_bytes())


def write_job(workspace: Workspace, bucket: Bucket, into: str = "", **sections: Mapping[str, object]) -> None:
    """The job over ``docs`` in the bucket; ``into`` is the folder in the bucket for its report, "" a local one."""
    source = {"folder": f"s3://{bucket.name}/docs", **sections.pop("source", {})}
    if into:
        sections["report"] = {"folder": f"s3://{bucket.name}/{into}", **sections.get("report", {})}
    workspace.write_job(None, source=source, **sections)


def uploads(requests: list[str]) -> list[str]:
    return [line.removeprefix("PUT ") for line in requests if line.startswith("PUT ")]


def is_whole(bucket: Bucket, folder: str) -> bool:
    """Whether the report in the bucket has the page of each of its documents."""
    report = json.loads(bucket.get(f"{folder}/report.json"))
    pages = [key for key in bucket.etags() if key.startswith(f"{folder}/documents/")]
    index = bucket.get(f"{folder}/SUMMARY.md").decode()
    assert index
    return all(any(Path(d["path"]).stem in page for page in pages) for d in report["documents"])


# --- reading


def test_a_report_is_the_same_wherever_the_documents_lie(bucket: Bucket, workspace: Workspace) -> None:
    """From a bucket into a bucket, and from a folder into a folder: but for times, ids and names of folders."""
    put(bucket, workspace, "a.pdf", 1, 2, 3)
    put(bucket, workspace, "sub/b ü'.pdf", 4)
    (workspace.docs / "broken.pdf").write_bytes(b"no PDF")
    bucket.put("docs/broken.pdf", b"no PDF")
    formats = {"formats": ["html", "markdown", "csv", "xlsx"]}
    write_job(workspace, bucket, "reports/x", split={"max_pages": 2}, report=formats)

    workspace.run()

    there = {key.removeprefix("reports/x/"): bucket.get(key) for key in bucket.etags() if key.startswith("reports/")}
    workspace.ledger.unlink()
    workspace.write_job(split={"max_pages": 2}, report=formats)
    workspace.run()
    here = {
        path.relative_to(workspace.reports).as_posix(): path.read_bytes()
        for path in workspace.reports.rglob("*") if path.is_file()
    }  # fmt: skip
    assert there.keys() == here.keys()
    assert comparable(there["report.json"]) == comparable(here["report.json"])
    assert {d["status"] for d in comparable(here["report.json"])["documents"]} == {"done", "failed"}
    assert there["risks.csv"] == here["risks.csv"]


def comparable(report: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report)
    for key in ("id", "started_at", "finished_at", "originals"):
        del found["run"][key]
    for document in found["documents"]:
        for chunk in document["chunks"]:
            del chunk["request_id"]
    return found


def test_what_did_not_change_is_neither_downloaded_nor_sent_nor_uploaded(bucket: Bucket, workspace: Workspace) -> None:
    """A second run lists, and puts the files that say when it was."""
    put(bucket, workspace, "a.pdf", 1)
    put(bucket, workspace, "b.pdf", 2)
    write_job(workspace, bucket, "r", report={"formats": ["markdown"]})
    workspace.run()
    bucket.requests()

    result = workspace.run()

    asked = bucket.requests()
    assert (result.spending.requests, [d.unchanged for d in result.documents]) == (0, [True, True])
    assert not [line for line in asked if "docs/" in line and not line.startswith("GET /")]
    assert uploads(asked) == ["r/SUMMARY.md", "r/report.json"]


def test_each_new_file_is_downloaded_once(bucket: Bucket, workspace: Workspace) -> None:
    """To be hashed; to be opened, cut, sent, proven and drawn it is here already."""
    put(bucket, workspace, "a.pdf", 1, 2)
    put(bucket, workspace, "b.pdf", 3)
    write_job(workspace, bucket, split={"max_pages": 1}, report={"formats": ["html"]})
    bucket.requests()

    assert workspace.run().run.status is RunStatus.COMPLETE

    assert bucket.downloads() == ["docs/a.pdf", "docs/b.pdf"]


def test_another_object_of_the_same_size_is_noticed(bucket: Bucket, workspace: Workspace) -> None:
    """By its etag; the others are left alone."""
    for name in ("a.pdf", "b.pdf"):
        put(bucket, workspace, name, 1)
    write_job(workspace, bucket)
    before = workspace.run()
    put(bucket, workspace, "b.pdf", 2)
    bucket.requests()

    after = workspace.run()

    a, b = after.documents
    assert bucket.downloads() == ["docs/b.pdf"]
    assert (a.unchanged, b.unchanged, b.size_bytes) == (True, False, before.documents[1].size_bytes)
    assert "K002" in b.risks[0].quote


class Replacing(Quiet):
    """Puts another object in the place of one when the files are known, and empties the cache."""

    def __init__(self, bucket: Bucket, data: bytes, cache: Path) -> None:
        super().__init__()
        self._bucket, self._data, self._cache = bucket, data, cache

    def found(self, paths: Mapping[str, str]) -> None:
        self._bucket.put("docs/a.pdf", self._data)
        shutil.rmtree(self._cache)


def test_an_object_that_is_replaced_during_a_run_is_not_filed_under_the_old_hash(
    bucket: Bucket, workspace: Workspace, tmp_path: Path
) -> None:
    """It waits for the next run, which reads it as it is then."""
    put(bucket, workspace, "a.pdf", 1)
    new = write_pdf(tmp_path / "new.pdf", [clause(2)]).read_bytes()
    write_job(workspace, bucket)

    first = workspace.run(observer=Replacing(bucket, new, tmp_path / "cache"))
    second = workspace.run()

    assert (first.run.exit_code, first.spending.requests) == (ExitCode.INCOMPLETE, 0)
    assert (second.run.exit_code, second.spending.requests) == (ExitCode.COMPLETE, 1)
    assert "K002" in second.documents[0].risks[0].quote


def test_a_twin_stands_in_for_an_object_that_is_replaced(bucket: Bucket, workspace: Workspace, tmp_path: Path) -> None:
    """To be opened, sent and proven."""
    put(bucket, workspace, "a.pdf", 1)
    put(bucket, workspace, "b.pdf", 1)
    write_job(workspace, bucket)

    result = workspace.run(observer=Replacing(bucket, b"other", tmp_path / "cache"))

    assert (result.run.exit_code, result.spending.requests) == (ExitCode.COMPLETE, 1)
    assert result.documents[1].risks[0].quote_check is QuoteCheck.VERIFIED


def test_an_object_that_cannot_be_read_has_its_reason_alone(bucket: Bucket, workspace: Workspace) -> None:
    """The others are done."""
    for number in (1, 2, 3):
        put(bucket, workspace, f"{number}.pdf", number)
    bucket.fail({"docs/2.pdf": {"GET": [403] * 9}})
    write_job(workspace, bucket)

    result = workspace.run()

    assert [d.status for d in result.documents] == [DocumentStatus.DONE, DocumentStatus.FAILED, DocumentStatus.DONE]
    assert str(result.documents[1].reason).startswith("the file cannot be read: access is denied (AccessDenied")
    assert result.run.exit_code == ExitCode.INCOMPLETE


def test_a_cache_smaller_than_a_document_does(bucket: Bucket, workspace: Workspace, tmp_path: Path) -> None:
    """What is sent as it lies goes from a copy of its own, whatever the cache removes meanwhile."""
    for number in (1, 2, 3):
        path = noisy_page(tmp_path / f"{number}.pdf", pages=number, size=(500, 700))
        bucket.put(f"docs/{number}.pdf", path.read_bytes())
    write_job(workspace, bucket, source={"cache_mb": 1})

    assert workspace.run().run.status is RunStatus.COMPLETE

    assert list((tmp_path / "cache" / "docpipe" / "files").iterdir()) == []
    assert not workspace.ledger.with_name("state.sqlite3.spool").exists()


@pytest.mark.parametrize("batch", [False, True])
def test_images_and_batches_are_sent_from_a_bucket_too(
    bucket: Bucket, workspace: Workspace, tmp_path: Path, batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself where the API takes it as it is."""
    monkeypatch.setattr(batching, "_FIRST_PAUSE_S", 0.01)
    put(bucket, workspace, "a.pdf", 1)
    Image.new("RGB", (60, 40), "white").save(tmp_path / "b.png")
    bucket.put("docs/b.png", (tmp_path / "b.png").read_bytes())
    write_job(workspace, bucket, source={"include": ["**/*"]}, endpoint={"batch": batch})

    result = workspace.run()

    assert [d.status for d in result.documents] == [DocumentStatus.DONE] * 2


def test_a_kill_while_files_are_hashed_loses_few_of_them(bucket: Bucket, workspace: Workspace) -> None:
    """Those that are on record are not downloaded again."""
    for number in range(1, 13):
        put(bucket, workspace, f"{number:02}.pdf", number)
    bucket.fail({"docs/12.pdf": {"GET": [-1] * 9}})
    write_job(workspace, bucket)
    with killed(workspace):
        bucket.wait_for("HEAD", "docs/11.pdf")
        wait_until(lambda: len(known(workspace, f"s3://{bucket.name}/docs")) >= 10)
    bucket.fail({})
    bucket.requests()

    assert workspace.run().run.status is RunStatus.COMPLETE

    assert len(bucket.downloads()) <= 2


@contextmanager
def killed(workspace: Workspace) -> Iterator[None]:
    """A run that is killed at the end of the block."""
    with workspace.start("run", str(workspace.job_file)) as process:
        try:
            yield
        finally:
            process.kill()


def known(workspace: Workspace, folder: str) -> list[str]:
    try:
        with Ledger.reading(workspace.ledger) as ledger:
            return [path for path, file in ledger.files("job", Url(folder)).items() if file.sha256]
    except LedgerError:  # it is being made
        return []


def test_files_of_a_web_server_are_read_and_linked(bucket: Bucket, workspace: Workspace) -> None:
    """The report leads to the originals, for a browser can open them."""
    put(bucket, workspace, "a ü.pdf", 1)
    address = f"{bucket.address}/{bucket.name}/docs"
    workspace.write_job(source={"folder": address, "include": ["a ü.pdf"]}, report={"formats": ["html"]})

    result = workspace.run()
    again = workspace.run()

    assert (result.run.exit_code, again.documents[0].unchanged) == (ExitCode.COMPLETE, True)
    [page] = (workspace.reports / "documents").glob("*.html")
    assert f'href="{address}/a%20%C3%BC.pdf#page=1"' in page.read_text()


def test_verify_hashes_the_objects_again(bucket: Bucket, workspace: Workspace) -> None:
    """And tells of those that changed."""
    for name in ("a.pdf", "b.pdf"):
        put(bucket, workspace, name, 1)
    write_job(workspace, bucket)
    workspace.run()
    put(bucket, workspace, "b.pdf", 2)

    verified = verify_job(job.load(workspace.job_file))

    assert (verified.files, verified.wrong, verified.notes) == (2, (), ("b.pdf changed since the last run",))


# --- what is wrong is said


def test_a_bucket_that_is_not_there_is_told(bucket: Bucket, workspace: Workspace) -> None:
    """As source and as the place of the report, before anything is sent; the exit code is 4."""
    for section in ("source", "report"):
        workspace.write_job(None, **{section: {"folder": "s3://no-such-bucket/docs"}})

        with pytest.raises(SettingsError, match=r"^s3://no-such-bucket/.*: not found .*bucket does not exist"):
            workspace.run()


def test_missing_credentials_are_told(bucket: Bucket, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a word that says where they belong."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(workspace.folder))
    storage._filesystem.cache_clear()
    write_job(workspace, bucket)

    with pytest.raises(SettingsError, match=r"^s3://.*/docs: there are no credentials for it in the environment"):
        workspace.run()

    storage._filesystem.cache_clear()


def test_a_bucket_that_was_emptied_is_not_taken_for_an_empty_one(bucket: Bucket, workspace: Workspace) -> None:
    """As with a share that is not mounted."""
    put(bucket, workspace, "a.pdf", 1)
    write_job(workspace, bucket)
    workspace.run()
    bucket.asked("DELETE", "docs/a.pdf")

    with pytest.raises(SettingsError, match="there were 1 at the last run"):
        workspace.run()


def test_check_says_whether_the_buckets_can_be_used(bucket: Bucket, workspace: Workspace) -> None:
    """The source is listed, the report's place looked at, and nothing is written."""
    put(bucket, workspace, "a.pdf", 1)
    write_job(workspace, bucket, "r")
    bucket.requests()

    found = {finding.what: finding.text for finding in check.check_job(job.load(workspace.job_file), os.environ)}

    assert found["source folder"] == f"s3://{bucket.name}/docs: 1 files match"
    assert found["report folder"].startswith(f"s3://{bucket.name}/r: reachable")
    assert found["cache"].startswith(str(workspace.folder / "cache"))
    assert not uploads(bucket.requests())


def test_credentials_are_written_nowhere(
    bucket: Bucket, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not to a file, not to the output, also when something goes wrong."""
    put(bucket, workspace, "a.pdf", 1)
    write_job(workspace, bucket, "r")
    bucket.fail({"r/report.json": {"PUT": [403] * 9}})

    monkeypatch.setattr(sys, "argv", ["docpipe", "run", str(workspace.job_file), "--verbose"])

    assert cli.end() == ExitCode.SETTINGS

    out, err = capfd.readouterr()
    assert "access is denied" in err
    texts = [path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()] + [f"{out}{err}".encode()]
    assert not [text for text in texts if SECRET.encode() in text or ACCESS.encode() in text]


# --- publishing


def test_browsers_are_told_what_each_file_is(bucket: Bucket, workspace: Workspace) -> None:
    """So that a page is shown and not saved, with its letters."""
    put(bucket, workspace, "a.pdf", 1)
    write_job(workspace, bucket, "r", report={"formats": ["html", "csv", "xlsx"]})
    workspace.run()

    types = {key: bucket.asked("HEAD", f"r/{key}").headers["content-type"] for key in ("index.html", "report.json")}

    assert types == {"index.html": "text/html; charset=utf-8", "report.json": "application/json"}


def test_the_index_comes_after_the_pages_and_the_report_last(bucket: Bucket, workspace: Workspace) -> None:
    """Only then is removed what the report no longer has."""
    put(bucket, workspace, "a.pdf", 1)
    put(bucket, workspace, "b.pdf", 2)
    write_job(workspace, bucket, "r", report={"formats": ["html"]})
    workspace.run()
    bucket.asked("DELETE", "docs/b.pdf")
    put(bucket, workspace, "c.pdf", 3)
    bucket.requests()

    workspace.run()

    changes = [line for line in bucket.requests() if line.startswith(("PUT", "DELETE"))]
    assert [line.split("-")[0] for line in changes] == [
        "PUT r/documents/c", "PUT r/index.html", "PUT r/report.json", "DELETE r/documents/b",
    ]  # fmt: skip


@pytest.mark.parametrize("at", ["PUT r/report.json", "DELETE r/documents"])
def test_a_kill_while_publishing_leaves_a_whole_report(bucket: Bucket, workspace: Workspace, at: str) -> None:
    """The old report.json or the new one, with every page that it lists; the next run completes it."""
    put(bucket, workspace, "a.pdf", 1)
    put(bucket, workspace, "b.pdf", 2)
    write_job(workspace, bucket, "r", report={"formats": ["markdown"]})
    workspace.run()
    bucket.asked("DELETE", "docs/b.pdf")
    put(bucket, workspace, "c.pdf", 3)
    method, _, key = at.partition(" ")
    [key] = [name for name in bucket.etags() if name.startswith(f"{key}/b" if method == "DELETE" else key)]
    bucket.fail({key: {method: [-1] * 9}})
    bucket.requests()
    with killed(workspace):
        bucket.wait_for(method, key)
    bucket.fail({})

    paths = [d["path"] for d in json.loads(bucket.get("r/report.json"))["documents"]]
    assert paths == (["a.pdf", "c.pdf"] if method == "DELETE" else ["a.pdf", "b.pdf"])
    assert is_whole(bucket, "r")

    workspace.run()

    assert [d["path"] for d in json.loads(bucket.get("r/report.json"))["documents"]] == ["a.pdf", "c.pdf"]
    assert is_whole(bucket, "r")
    assert not [key for key in bucket.etags() if key.startswith("r/documents/b")]


def test_what_others_put_beside_the_report_is_left_alone(bucket: Bucket, workspace: Workspace) -> None:
    """Also below the folder of its pages, when pages are removed."""
    others = ["r/notes.txt", "r/documents/mine.html", "r2/index.html"]
    for key in others:
        bucket.put(key, b"mine")
    for name in ("a.pdf", "b.pdf"):
        put(bucket, workspace, name, 1)
    write_job(workspace, bucket, "r")
    workspace.run()
    bucket.asked("DELETE", "docs/b.pdf")

    workspace.run()

    assert [bucket.get(key) for key in others] == [b"mine"] * 3


def test_a_file_that_another_put_in_a_pages_place_is_not_overwritten(bucket: Bucket, workspace: Workspace) -> None:
    """The run says so; its report lies in the mirror, and goes to another folder with no request sent."""
    put(bucket, workspace, "a.pdf", 1)
    bucket.put("r/SUMMARY.md", b"mine")
    write_job(workspace, bucket, "r")

    with pytest.raises(SettingsError, match=r"holds SUMMARY\.md, which this job did not put there") as raised:
        workspace.run()

    mirror = workspace.folder / "state.sqlite3.report" / "job"
    assert f"It lies whole in {mirror}, and all answers are on record" in str(raised.value)
    assert (mirror / "report.json").exists()
    assert bucket.get("r/SUMMARY.md") == b"mine"
    assert len(bucket.etags()) == 2

    write_job(workspace, bucket, "r2")
    workspace.report()

    assert is_whole(bucket, "r2")


def test_the_report_of_another_job_is_not_replaced(bucket: Bucket, workspace: Workspace) -> None:
    """It is noticed before anything is read or sent."""
    put(bucket, workspace, "a.pdf", 1)
    bucket.put("r/report.json", b'{"schema": 1, "job": "other", "title": "x"}')
    write_job(workspace, bucket, "r")

    with pytest.raises(SettingsError, match=rf"^s3://{bucket.name}/r holds the report of the job other"):
        workspace.run()

    assert not workspace.ledger.exists()


def test_a_lost_mirror_is_made_anew(bucket: Bucket, workspace: Workspace) -> None:
    """The report in the bucket says which of its files are this job's, so none is left behind."""
    put(bucket, workspace, "a.pdf", 1)
    put(bucket, workspace, "b.pdf", 2)
    write_job(workspace, bucket, "r", report={"formats": ["markdown"]})
    workspace.run()
    before = bucket.etags()
    shutil.rmtree(workspace.folder / "state.sqlite3.report")
    bucket.asked("DELETE", "docs/b.pdf")

    workspace.run()

    assert [key for key in before if key not in bucket.etags()][1:] == [
        key for key in before if key.startswith("r/documents/b")
    ]
    assert is_whole(bucket, "r")


def test_a_file_that_was_taken_away_in_the_bucket_is_put_there_again(bucket: Bucket, workspace: Workspace) -> None:
    """What lies there is looked at each time, not only remembered."""
    put(bucket, workspace, "a.pdf", 1)
    write_job(workspace, bucket, "r", report={"formats": ["markdown"]})
    workspace.run()
    [page] = [key for key in bucket.etags() if key.startswith("r/documents/")]
    bucket.asked("DELETE", page)

    workspace.report()

    assert is_whole(bucket, "r")
