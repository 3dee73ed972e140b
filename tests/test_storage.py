"""URLs of folders, what lies in them, and the copies of files that are kept here."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import scanner, storage
from pipeline.domain import SourceFile
from pipeline.errors import SettingsError
from pipeline.file_cache import FileCache
from pipeline.hashing import hashed
from pipeline.pdf import Source, SourceChangedError
from pipeline.reading import LocalReader
from pipeline.sandbox import Sandbox
from pipeline.scanner import Scan
from pipeline.storage import Url
from tests import stores
from tests.buckets import SECRET, Bucket
from tests.stores import AzureStore, GoogleStore, MemoryStore


def scanned(folder: Url, include: tuple[str, ...] = ("**/*.pdf",), known: Scan | None = None) -> Scan:
    return scanner.scan(folder, include, (), False, {file.path: file for file in known.files} if known else {})


def remote(bucket: Bucket, key: str, data: bytes) -> Source:
    """An object that was hashed when it held ``data``."""
    return Source(f"s3://{bucket.name}/{key}", len(data), 0, hashlib.sha256(data).hexdigest())


async def read(cache: FileCache, source: Source) -> bytes:
    async with cache.held(source) as local:
        return Path(local.path).read_bytes()


# --- URLs


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/a b/ü/", "s3://bucket/a b/ü"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
        ("https://host.example:8443/a", "https://host.example:8443/a"),
        ("http://127.0.0.1:9/a", "http://127.0.0.1:9/a"),
    ],
)
def test_a_folder_may_be_in_any_of_these_stores(text: str, address: str) -> None:
    """The scheme in any case, a slash at the end or not."""
    assert str(Url.parsed(text)) == address


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host/a", "file:///etc", "s3://", "s3:///a", "s3://user:pass@bucket/a", "https://me:pass@host/a",
        "https://host/a?X-Amz-Signature=0123", "s3://bucket/a#b", "s3://bucket/a//b", "s3://bucket/../b",
        "http://host.example/a", "https://host:0/a", "https://:80/a", "https://host/a b",
    ],
)  # fmt: skip
def test_no_other_url_is_taken(text: str) -> None:
    """No credentials, no signature, no way up; and what is wrong does not repeat what was written."""
    with pytest.raises(ValueError, match=r"^must ") as raised:
        Url.parsed(text)

    assert "pass" not in str(raised.value).replace("password", "")
    assert "0123" not in str(raised.value)


def test_one_folder_lies_in_another_by_whole_steps() -> None:
    """``docs2`` does not lie in ``docs``."""
    docs = Url.parsed("s3://bucket/docs")

    assert [(Url.parsed(u).is_relative_to(docs)) for u in ("s3://bucket/docs", "s3://bucket/docs/a")] == [True, True]
    assert not Url.parsed("s3://bucket/docs2").is_relative_to(docs)


def test_a_missing_package_is_named_with_the_command_that_brings_it() -> None:
    """Whoever names a bucket need not know what fsspec is."""
    code = """if True:
        import sys
        sys.modules |= dict.fromkeys(("s3fs", "gcsfs", "adlfs", "aiohttp"))
        from pipeline import errors, storage
        for folder in ("s3://bucket", "gs://bucket", "az://container", "https://host"):
            try:
                storage.looked_at(storage.Url.parsed(folder), ["a.pdf"])
            except errors.SettingsError as error:
                print(error)
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines() == [
        "s3:// needs the package s3fs: pip install 'docpipe[s3]'",
        "gs:// needs the package gcsfs: pip install 'docpipe[gs]'",
        "az:// needs the package adlfs: pip install 'docpipe[azure]'",
        "https:// needs the package aiohttp: pip install 'docpipe[https]'",
    ]


def test_nothing_of_fsspec_is_loaded_before_a_folder_is_a_url() -> None:
    """A run over local folders starts as fast as ever."""
    code = (
        "import sys, pipeline.run, pipeline.sending, pipeline.cli; "
        "print([m for m in ('fsspec', 's3fs', 'aiohttp', 'botocore') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


# --- scanning


def test_keys_are_taken_as_paths(bucket: Bucket) -> None:
    """Blanks, letters of all scripts, quotes, control characters, the longest key: each is a file to be read."""
    names = ["a.pdf", "sub/b c.PDF", "ü'\"#?&+%20.pdf", "\x01\x7f.pdf", "[x]*.pdf", f"{'k' * 1000}.pdf"]
    for name in names:
        bucket.put(f"docs/{name}", b"x")
    for name in ("no.txt", ".hidden.pdf", "~$lock.pdf", ".git/x.pdf"):
        bucket.put(f"docs/{name}", b"x")
    bucket.put("docs2/beside.pdf", b"x")

    found = scanned(Url.parsed(f"s3://{bucket.name}/docs")).files

    assert [file.path for file in found] == sorted(names)
    assert all(file.is_unread and file.size_bytes == 1 and file.etag for file in found)


@pytest.mark.parametrize("key", ["../up.pdf", "a//b.pdf", "/b.pdf", "a/./b.pdf", "a/b.pdf/"])
def test_a_key_that_is_no_path_has_its_reason(bucket: Bucket, key: str) -> None:
    """It leads nowhere, and is not passed over in silence either."""
    bucket.put(f"docs/{key}", b"x")

    [file] = scanned(Url.parsed(f"s3://{bucket.name}/docs")).files

    assert (file.path, file.sha256) == (key, None)
    assert file.problem == "its key is not the path of a file; give the object another one"


def test_a_marker_of_a_folder_is_no_document(bucket: Bucket) -> None:
    """Some programs make an empty object for each folder."""
    bucket.put("docs/", b"")
    bucket.put("docs/sub/", b"")

    assert scanned(Url.parsed(f"s3://{bucket.name}/docs")).files == ()


def test_a_container_that_is_not_there_is_no_empty_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the source and as the place of the report; an empty folder in one that is there is one."""
    stores.use(monkeypatch, AzureStore({"container/docs/a.pdf": b""}))

    for look in (storage.listed, lambda folder: storage.head(folder / "report.json", 9)):
        with pytest.raises(SettingsError, match=r"^az://contaner/docs.*: not found \(.*contaner"):
            look(Url.parsed("az://contaner/docs"))

    assert storage.listed(Url.parsed("az://container/empty")) == []
    assert storage.head(Url.parsed("az://container/empty/report.json"), 9) is None


def test_a_container_that_may_not_be_looked_at_itself_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature may allow what is in it alone."""

    class Limited(AzureStore):
        async def _info(self, path: str, **more: object) -> dict[str, Any]:
            if "/" not in path:
                raise PermissionError(path)
            return await super()._info(path, **more)

    stores.use(monkeypatch, Limited({"container/docs/a.pdf": b""}))

    assert storage.listed(Url.parsed("az://container/empty")) == []


@pytest.mark.parametrize(
    ("now", "is_kept"),
    [
        (SourceFile("a.pdf", 1, 5, "aa", None, "tag"), True),
        (SourceFile("a.pdf", 1, 5, "aa", None, "other"), False),
        (SourceFile("a.pdf", 2, 5, "aa", None, "tag"), False),
        (SourceFile("a.pdf", 1, 6, "aa", None, "tag"), False),
        (SourceFile("a.pdf", 1, 5, "aa", None, None), False),
        (SourceFile("a.pdf", 1, 5, None, "it could not be read", "tag"), False),
    ],
)
def test_a_file_keeps_its_hash_while_size_time_and_etag_are_the_same(
    now: SourceFile, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the store tells must be as it was."""
    monkeypatch.setattr(storage, "listed", lambda folder: [storage.Listed("a.pdf", 1, 5, "tag")])

    [file] = scanned(Url.parsed("s3://bucket/docs"), known=Scan((now,), 0)).files

    assert (file is now) == is_kept
    assert file.is_unread != is_kept


def test_a_file_of_which_nothing_is_told_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size alone says nothing of what changed."""
    known = SourceFile("a.pdf", 1, 0, "aa")
    monkeypatch.setattr(storage, "listed", lambda folder: [storage.Listed("a.pdf", 1, 0, None)])

    assert scanned(Url.parsed("s3://bucket/docs"), known=Scan((known,), 0)).files[0].is_unread


def test_a_web_server_is_asked_for_each_file_by_name(bucket: Bucket) -> None:
    """Size, time and tag are in its headers; a file that it does not have has its reason."""
    bucket.put("docs/a ü.pdf", b"12345")

    a, b = scanned(Url.parsed(f"{bucket.address}/{bucket.name}/docs"), ("a ü.pdf", "b.pdf")).files

    assert (a.path, a.size_bytes, a.is_unread) == ("a ü.pdf", 5, True)
    assert a.etag
    assert a.mtime_ns > 1.7e18
    assert b.problem is not None
    assert b.problem.startswith("the file cannot be read: 404")


def test_a_web_server_that_is_not_there_is_no_files_fault() -> None:
    """The run ends before any document is called failed."""
    with pytest.raises(SettingsError, match=r"^http://127.0.0.1:1/docs: Cannot connect"):
        scanned(Url.parsed("http://127.0.0.1:1/docs"), ("a.pdf",))


@pytest.mark.parametrize("pattern", ["**/*.pdf", "a?.pdf", "../a.pdf", "a//b.pdf"])
def test_a_web_server_cannot_be_asked_for_patterns(bucket: Bucket, pattern: str) -> None:
    """It has no list of its files."""
    with pytest.raises(SettingsError, match="cannot be listed, for it is a web server"):
        scanned(Url.parsed(f"{bucket.address}/{bucket.name}/docs"), ("a.pdf", pattern))


def test_an_etag_is_the_same_with_quotes_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some stores list it without; a file is not taken for one that was being written because of that."""
    stores.use(monkeypatch, AzureStore({"container/docs/a.pdf": b"one"}))
    folder, reader = Url.parsed("az://container/docs"), LocalReader(Sandbox(1), FileCache(folder=tmp_path))

    async def all_hashed() -> list[SourceFile]:
        return [file async for some in hashed(folder, scanned(folder).files, reader) for file in some]

    [file] = asyncio.run(all_hashed())

    assert (file.etag, file.problem, file.sha256) == ('"0x8DE"', None, hashlib.sha256(b"one").hexdigest())


# --- removing


def test_files_are_removed_several_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand, one after the other, take hours; one that is not there is none the worse."""
    folder = Url.parsed("az://container/docs")
    store = InPairs({f"container/docs/{number}": b"" for number in range(4)})
    stores.use(monkeypatch, store)

    storage.delete([folder / str(number) for number in range(6)], folder)

    assert store.objects == {}


class InPairs(MemoryStore):
    """Removes a file when a second one is to be removed at the same time."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self._pair = asyncio.Barrier(2)

    async def _rm_file(self, path: str, **more: object) -> None:
        async with asyncio.timeout(10):
            await self._pair.wait()
        await super()._rm_file(path, **more)


def test_a_file_that_may_not_be_removed_is_told(bucket: Bucket) -> None:
    """With the folder, whichever of them it is."""
    bucket.put("r/a", b"")
    bucket.fail({"r/a": {"DELETE": [403]}})
    folder = Url.parsed(f"s3://{bucket.name}/r")

    with pytest.raises(SettingsError, match=rf"^{folder}: access is denied"):
        storage.delete([folder / "a", folder / "b"], folder)


# --- the cache


def test_a_copy_is_made_once_and_kept(bucket: Bucket, tmp_path: Path) -> None:
    """However many ask for it at the same time, and whenever later."""
    bucket.put("a.pdf", b"one")
    source, folder = remote(bucket, "a.pdf", b"one"), tmp_path / "files"
    bucket.requests()

    async def all_at_once() -> list[bytes]:
        cache = FileCache(folder=folder)
        return await asyncio.gather(*(read(cache, source) for _ in range(5)))

    assert asyncio.run(all_at_once()) == [b"one"] * 5
    assert asyncio.run(read(FileCache(folder=folder), source)) == b"one"
    assert bucket.downloads() == ["a.pdf"]
    assert [path.name for path in folder.iterdir()] == [source.sha256]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / source.sha256).stat().st_mode) == 0o600


def test_other_bytes_are_never_filed_under_a_hash(bucket: Bucket, tmp_path: Path) -> None:
    """The object was replaced since it was hashed."""
    source = remote(bucket, "a.pdf", b"one")
    bucket.put("a.pdf", b"two")

    with pytest.raises(SourceChangedError):
        asyncio.run(read(FileCache(folder=tmp_path / "files"), source))

    assert list((tmp_path / "files").iterdir()) == []


def test_a_twin_is_brought_in_the_place_of_what_is_gone_or_changed(bucket: Bucket, tmp_path: Path) -> None:
    """Until one has the bytes; the last one's trouble is told if none has."""
    bucket.put("changed.pdf", b"two")
    bucket.put("twin.pdf", b"one")
    changed, twin = (f"s3://{bucket.name}/{name}.pdf" for name in ("changed", "twin"))
    source = remote(bucket, "gone.pdf", b"one")

    with pytest.raises(SourceChangedError, match=changed):
        asyncio.run(read(FileCache(folder=tmp_path), replace(source, twins=(changed,))))
    assert asyncio.run(read(FileCache(folder=tmp_path), replace(source, twins=(changed, twin)))) == b"one"


def test_a_copy_that_lost_its_end_is_made_anew(bucket: Bucket, tmp_path: Path) -> None:
    """Whatever a disk did to it."""
    bucket.put("a.pdf", b"one")
    source = remote(bucket, "a.pdf", b"one")
    (tmp_path / source.sha256).write_bytes(b"o")

    assert asyncio.run(read(FileCache(folder=tmp_path), source)) == b"one"


def test_a_connection_that_breaks_off_is_tried_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is not taken for the file."""
    monkeypatch.setattr(storage, "_PAUSE_S", 0)
    bucket.put("a.pdf", b"one")
    bucket.fail({"a.pdf": {"GET": [503, 0]}})

    assert asyncio.run(read(FileCache(folder=tmp_path), remote(bucket, "a.pdf", b"one"))) == b"one"


def test_what_comes_is_locked_in_each_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the library removed the file of the one before; no other process takes it for what a kill left."""
    locked: list[bool] = []

    class Watched(GoogleStore):
        async def _get_file(self, path: str, target: str, **more: object) -> None:
            await super()._get_file(path, target, **more)
            locked.append(is_locked(Path(target)))

    monkeypatch.setattr(storage, "_PAUSE_S", 0)
    stores.use(monkeypatch, Watched({"bucket/a.pdf": b"one"}))

    found = asyncio.run(FileCache(folder=tmp_path).hash(Source("gs://bucket/a.pdf", 3, 0)))

    assert locked == [True]
    assert [path.name for path in tmp_path.iterdir()] == [found.sha256]


def test_nothing_is_remembered_of_files_that_nobody_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many an archive has; one whose bytes are others now is forgotten too."""
    stores.use(monkeypatch, MemoryStore({"bucket/a.pdf": b"one", "bucket/b.pdf": b"two"}))
    cache, one = FileCache(folder=tmp_path), hashlib.sha256(b"one").hexdigest()

    assert asyncio.run(read(cache, Source("gs://bucket/a.pdf", 3, 0, one))) == b"one"
    with pytest.raises(SourceChangedError):
        asyncio.run(read(cache, Source("gs://bucket/b.pdf", 3, 0, "0" * 64)))

    assert (len(cache._wanted), len(cache._parts), len(cache._coming)) == (0, 0, 0)


def test_what_was_used_longest_ago_makes_room(bucket: Bucket, tmp_path: Path) -> None:
    """The bound holds, and a file in use survives though it is the oldest."""
    sources = []
    for number in range(12):
        data = bytes([number]) * 1000
        bucket.put(f"{number}.pdf", data)
        sources.append(remote(bucket, f"{number}.pdf", data))

    async def use() -> list[int]:
        cache, sizes = FileCache(5000, tmp_path), []
        async with cache.held(sources[0]) as oldest:
            for source in sources[1:]:
                await read(cache, source)
                await read(cache, sources[1])  # again and again
                sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
            assert Path(oldest.path).exists()
        return sizes

    sizes = asyncio.run(use())

    kept = {path.name for path in tmp_path.iterdir()}
    assert max(sizes) <= 5000
    assert {sources[0].sha256, sources[1].sha256, sources[11].sha256} <= kept
    assert sources[2].sha256 not in kept


def test_a_file_that_another_process_uses_is_kept(bucket: Bucket, tmp_path: Path) -> None:
    """The lock is the kernel's, so it holds between processes, and goes with the process."""
    old = tmp_path / hashlib.sha256(b"old").hexdigest()
    old.write_bytes(b"old")
    bucket.put("new.pdf", b"new!")
    source = remote(bucket, "new.pdf", b"new!")
    code = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_SH); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(old)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        asyncio.run(read(FileCache(4, tmp_path), source))
        assert old.exists()
        process.kill()
    (tmp_path / source.sha256).unlink(missing_ok=True)

    asyncio.run(read(FileCache(4, tmp_path), source))

    assert not old.exists()


def test_a_kill_leaves_nothing_that_is_taken_for_whole(bucket: Bucket, tmp_path: Path) -> None:
    """What a killed process left is removed when room is made, what another still writes is not."""
    source, folder = remote(bucket, "a.pdf", b"one"), tmp_path / "files"
    bucket.fail({"a.pdf": {"GET": [-1]}})
    code = (
        "import asyncio, sys; from pathlib import Path; from pipeline.file_cache import FileCache; "
        "from pipeline.pdf import Source; "
        "asyncio.run(FileCache(folder=Path(sys.argv[1])).hash(Source(sys.argv[2], 3, 0)))"
    )
    url = f"{bucket.address}/{bucket.name}/a.pdf"  # less to load than for s3://
    with subprocess.Popen([sys.executable, "-c", code, str(folder), url]) as process:
        bucket.wait_for("GET", "a.pdf")
        [part] = folder.iterdir()
        assert is_locked(part)
        bucket.fail({})
        bucket.put("b.pdf", b"two")
        asyncio.run(read(FileCache(folder=folder), remote(bucket, "b.pdf", b"two")))
        assert part.exists()
        process.kill()
    bucket.put("a.pdf", b"one")

    assert asyncio.run(read(FileCache(folder=folder), source)) == b"one"
    assert not part.exists()


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_download_that_is_given_up_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    """^C does not wait for a store that does not answer."""
    source, folder = remote(bucket, "a.pdf", b"one"), tmp_path / "files"
    bucket.fail({"a.pdf": {"GET": [-1]}})

    async def give_up() -> None:
        work = asyncio.create_task(FileCache(folder=folder).hash(source))
        while not (folder.is_dir() and list(folder.iterdir())):
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(give_up())

    assert list(folder.iterdir()) == []


def test_a_place_that_takes_no_copies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the folder or a file in it cannot be made: by its name, with the variable that names another."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    with pytest.raises(SettingsError, match=rf"{tmp_path}/file/docpipe/files .*; set XDG_CACHE_HOME to a folder"):
        asyncio.run(FileCache().hash(Source("s3://bucket/a.pdf", 1, 0)))

    with pytest.raises(SettingsError, match=r"^no copies of remote files can be made in /proc/self on this machine: "):
        asyncio.run(FileCache(folder=Path("/proc/self")).hash(Source("s3://bucket/a.pdf", 1, 0)))


def test_a_full_disk_is_told_with_the_folder_that_lies_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and what came so far is removed."""

    class Large(MemoryStore):
        async def _get_file(self, path: str, target: str, **_: object) -> None:
            tries.append(path)
            await asyncio.to_thread(Path("/dev/full").write_bytes, b"%PDF-")

    tries: list[str] = []
    stores.use(monkeypatch, Large({}))

    with pytest.raises(OSError, match=f"no room for a copy in {tmp_path} .No space left on device.; make room there"):
        asyncio.run(FileCache(folder=tmp_path).hash(Source("gs://bucket/a.pdf", 1, 0)))

    assert len(tries) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_message_holds_a_secret(bucket: Bucket) -> None:
    """Neither one of the environment nor the query of an address, which may be a signature."""
    told = storage.reason(ValueError(f"refused: {SECRET} at https://host/a?X-Amz-Signature=0123&b=1 and on"))

    assert told == "refused: … at https://host/a and on"
