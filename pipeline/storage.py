"""Folders that are URLs: what lies in them, brought here or put there. The only importer of fsspec.

fsspec and the library of each kind of store are loaded when the first URL is used. Credentials come from the
environment, as that library looks for them; none stands in a URL or in a message.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

from pipeline.errors import SettingsError
from pipeline.text import printable, shortened

_PACKAGES = {  # by scheme: the package that fsspec needs, and the extra that brings it
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "az": ("adlfs", "azure"),
    "https": ("aiohttp", "https"),
    "http": ("aiohttp", "https"),
}
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CONNECT_S, _READ_S = 10, 30  # each wait for a byte; a large file may take as long as it comes
_TRIES = 3  # of a file whose connection broke off; before that, s3fs goes on where it did
_PAUSE_S = 1.0  # between these
_AT_ONCE = 16  # uploads, looks and removals

_Item = TypeVar("_Item")
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CONNECTION_STRING|CREDENTIAL|SAS")


@dataclass(frozen=True, slots=True)
class Url:
    """A folder in a store, or a file in one: ``Url.parsed(text) / "a/b.pdf"``."""

    address: str

    @classmethod
    def parsed(cls, text: str) -> Self:
        """The folder that a user names.

        Raises:
            ValueError: what it must be, as the rest of a sentence; what was written may hold a secret and is not told.
        """
        scheme, _, rest = text.partition("://")
        scheme, rest = scheme.lower(), rest.rstrip("/")
        if scheme not in _PACKAGES:
            raise ValueError("must be a path, or a URL that begins with s3://, gs://, az:// or https://")
        host, *steps = rest.split("/")
        if "@" in host:
            raise ValueError("must not hold a user name or password; credentials belong in the environment")
        if "?" in rest or "#" in rest:
            raise ValueError("must not hold a query (?) or fragment (#), nor a signature; credentials belong in the "
                             "environment")  # fmt: skip
        if not host or not is_path(steps):
            raise ValueError("must name a bucket, container or host, and no empty step, . or .. after it")
        if scheme in ("https", "http"):
            _check_host(scheme, rest)
        return cls(f"{scheme}://{rest}")

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, path: str) -> Url:
        """The file or folder at a relative ``path``, whatever characters its name has."""
        return Url(f"{self.address}/{path if self.is_listable else quote(os.fsencode(path))}")

    @property
    def is_listable(self) -> bool:
        """Whether the store says what lies in a folder, and takes files; a web server does neither."""
        return not self.address.startswith("http")

    def is_relative_to(self, other: Url) -> bool:
        """Whether it is ``other``, or lies in it."""
        return f"{self.address}/".startswith(f"{other.address}/")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in a store as the store tells of it.

    ``path`` is relative to the folder; ``size_bytes`` is None, ``mtime_ns`` 0 and ``etag`` None where it does not say.
    """

    path: str
    size_bytes: int | None
    mtime_ns: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file, where it goes, and what a browser is to take it for."""

    file: Path
    url: Url
    content_type: str


def is_url(place: str) -> bool:
    """Whether a place is a URL; a path has no two slashes behind each other."""
    return "://" in place


def is_path(steps: Iterable[str]) -> bool:
    """Whether these are the steps to a file: none is empty, as behind a slash at the end, nor ``.`` or ``..``."""
    return all(step not in ("", ".", "..") for step in steps)


def listed(folder: Url) -> list[Listed]:
    """Every file below a folder; none where there is no such folder in its bucket.

    Raises:
        SettingsError: no such bucket, no permission, no credentials, no package, no way there.
    """
    with _explained(folder):
        system = _filesystem(_scheme(folder.address))
        start = system._strip_protocol(folder.address) + "/"
        found: Mapping[str, Mapping[str, Any]] = system.find(folder.address, detail=True)
        if not found:
            _check_container(system, folder)
        return [
            _as_listed(name.removeprefix(start), info)
            for name, info in found.items()
            if info.get("type") == "file" and name.startswith(start)
        ]


def looked_at(folder: Url, paths: Iterable[str]) -> list[Listed | tuple[str, str]]:
    """Files whose names are known, each as the server tells of it, or its path and why it does not.

    Raises:
        SettingsError: no package, no way there.
    """
    with _explained(folder):
        system = _filesystem(_scheme(folder.address))

        def look(path: str) -> Listed | tuple[str, str]:
            try:
                return _as_listed(path, system.info((folder / path).address))
            except Exception as error:  # noqa: BLE001 - each library has exceptions of its own
                # Whatever went wrong, fsspec calls it "not found".
                cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
                if not hasattr(cause, "status"):  # the server was not reached, which no single file is to blame for
                    raise cause from None
                return path, reason(cause)

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(look, paths))


async def download(url: str, target: Callable[[], Path]) -> None:
    """Bring a file here, in blocks, over what is at ``target``.

    That is asked for before each try: some libraries remove what they could not finish.

    Raises:
        OSError: it cannot be had; ``strerror`` says why, ``errno`` is one of ``DISK_IS_FULL`` or ``EIO``.
        SettingsError: the package is missing.
    """
    system = _filesystem(_scheme(url))
    more = _ONE_STREAM.get(_scheme(url), {})
    for left in reversed(range(_TRIES)):
        try:
            await _in_its_loop(system, system._get_file(url, str(target()), **more))
            return
        except Exception as error:  # noqa: BLE001
            if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
                raise OSError(error.errno, error.strerror) from None
            if not left or _is_final(error):
                raise OSError(errno.EIO, reason(error)) from None
        await asyncio.sleep(_PAUSE_S)


async def etag(url: str) -> str | None:
    """The tag that a file has now, None where the store gives none.

    Raises:
        OSError: it cannot be had; ``strerror`` says why.
    """
    system = _filesystem(_scheme(url))
    try:
        return _as_listed("", await _in_its_loop(system, system._info(url))).etag
    except Exception as error:  # noqa: BLE001
        raise OSError(errno.EIO, reason(error)) from None


def head(file: Url, count: int) -> bytes | None:
    """The first ``count`` bytes of a file that is not empty, None if there is none.

    Raises:
        SettingsError: no such bucket, no permission, no credentials, no package, no way there.
    """
    with _explained(file):
        system = _filesystem(_scheme(file.address))
        try:
            data: bytes = system.cat_file(file.address, start=0, end=count)
        except FileNotFoundError as error:
            if "bucket" in str(error).lower():
                raise
            _check_container(system, file)
            return None
        return data


def put(uploads: Iterable[Upload], about: Url) -> None:
    """Put files into a store, several at once; what was there is replaced, each whole or not at all.

    Raises:
        SettingsError: one of them cannot be put there; it names ``about``, the folder of all.
    """
    with _explained(about):
        system = _filesystem(_scheme(about.address))

        def one(upload: Upload) -> None:
            kind = _CONTENT_TYPE[_scheme(about.address)](upload.content_type)
            system.put_file(str(upload.file), upload.url.address, **kind)

        _each(one, uploads)


def delete(files: Iterable[Url], about: Url) -> None:
    """Take files away, several at once; those that are not there are none the worse.

    Raises:
        SettingsError: one of them cannot be removed; it names ``about``, the folder of all.
    """
    with _explained(about):
        system = _filesystem(_scheme(about.address))

        def one(file: Url) -> None:
            with suppress(FileNotFoundError):
                system.rm_file(file.address)  # each by itself: s3fs keeps to itself what a bulk delete left

        _each(one, files)


def _each(work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
    """Do it for all, several at once; what went wrong first ends it."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(work, items):
            pass


def reason(error: BaseException) -> str:
    """Why a store did not do what it was asked, in a few words, without what the environment keeps secret."""
    name = type(error).__name__
    if "Credential" in name or "ProfileNotFound" in name:
        return f"there are no credentials for it in the environment ({_told(error)})"
    match error:
        case PermissionError():
            return f"access is denied ({_told(error)}); look at the credentials in the environment and what they allow"
        case FileNotFoundError():
            return f"not found ({_told(error)})"
        case TimeoutError():
            return "it gave no answer in time"
    return _told(error) or name


def _told(error: BaseException) -> str:
    text = str(error)
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET_NAME.search(name.upper()):
            text = text.replace(value, "…").replace(quote(value, safe=""), "…")
    text = re.sub(r"([a-z]+://[^\s?\"'>]*)\?[^\s\"'>]*", r"\1", text)  # a query may be a signature
    return printable(shortened(text, 200))


def _check_host(scheme: str, rest: str) -> None:
    try:
        address = urlsplit(f"{scheme}://{rest}")
        well_formed = bool(address.hostname) and address.port != 0 and not re.search(r"\s", rest)
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError('must be an address like "https://host/folder"')
    if scheme == "http" and address.hostname not in _LOOPBACK:
        raise ValueError("must begin with https://; http:// is for this machine alone")


def _check_container(system: Any, place: Url) -> None:
    """Raise FileNotFoundError if there is no such container: to adlfs one has nothing in it.

    The right to read what is in a container need not include a look at itself, so any other answer says nothing.
    """
    if _scheme(place.address) == "az":
        try:
            system.info(system._strip_protocol(place.address).partition("/")[0])
        except FileNotFoundError:
            raise
        except Exception:  # noqa: BLE001
            return


def _scheme(url: str) -> str:
    return url.partition("://")[0]


@cache  # connections are kept for as long as the process lives
def _filesystem(scheme: str) -> Any:
    package, extra = _PACKAGES[scheme]
    try:
        import fsspec

        options = _OPTIONS[scheme]()
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError:
        raise SettingsError(f"{scheme}:// needs the package {package}: pip install 'docpipe[{extra}]'") from None


# Of one file at a time; they would bring large ones in parts of up to 50 MB, several at once in memory.
_ONE_STREAM = {"s3": {"max_concurrency": 1}, "gs": {"concurrency": 1}, "az": {"max_concurrency": 1}}


def _waits() -> Any:
    import aiohttp

    # Its own limit is 5 minutes for a whole file.
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)


def _s3() -> dict[str, Any]:
    # s3fs tries again by itself, five times.
    waits = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"total_max_attempts": 1}}
    return {"config_kwargs": waits}


def _web() -> dict[str, Any]:
    return {"client_kwargs": {"timeout": _waits(), "trust_env": True}}


_OPTIONS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "s3": _s3,
    "gs": lambda: {"requests_timeout": _waits()},
    "az": lambda: {"connection_timeout": _CONNECT_S, "read_timeout": _READ_S},
    "https": _web,
    "http": _web,
}

_CONTENT_TYPE: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "s3": lambda kind: {"ContentType": kind},
    "gs": lambda kind: {"content_type": kind},
    "az": lambda kind: {"content_settings": {"content_type": kind}},
}


async def _in_its_loop(system: Any, work: Any) -> Any:
    """A coroutine of fsspec, in the loop that its connections belong to; cancelled with whoever awaits it."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, system.loop))


@contextmanager
def _explained(place: Url) -> Iterator[None]:
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"{printable(place.address)}: {reason(error)}") from error


def _is_final(error: Exception) -> bool:
    """Whether trying again helps nobody: it is not there, or the library waited long enough."""
    return isinstance(error, FileNotFoundError | PermissionError) or "Timeout" in type(error).__name__


def _as_listed(path: str, info: Mapping[str, Any]) -> Listed:
    size = info.get("size")
    tag = next((info[key] for key in ("ETag", "etag") if info.get(key)), None)
    times = (info.get(key) for key in ("LastModified", "mtime", "updated", "last_modified", "Last-Modified"))
    time = next((time for time in times if time), None)
    return Listed(path, size if isinstance(size, int) else None, _ns(time), tag and _quoted(str(tag)))


def _quoted(tag: str) -> str:
    """An etag with its quotes (RFC 9110, 8.8.3), which some stores leave out, or only when they list."""
    return tag if tag.endswith('"') else f'"{tag}"'


def _ns(time: object) -> int:
    try:
        if isinstance(time, str):
            time = datetime.fromisoformat(time) if time[:4].isdigit() else parsedate_to_datetime(time)
        if isinstance(time, datetime):
            since = time.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
            return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    except (ValueError, OverflowError):
        pass
    return 0
