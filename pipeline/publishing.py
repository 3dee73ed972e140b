"""A report that is read behind a URL: written into a local folder, its mirror, and put there from it.

The mirror is a report like any other; a file in it remembers what was put where. Pages come first, ``index.html`` next
and ``report.json`` last, and only then is removed what the report no longer has. So after a kill at any moment there is
the old report.json or the new one, and every page that it lists. Nothing is touched that this job did not put there.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import reports, storage
from pipeline.errors import SettingsError
from pipeline.reports.files import naming, staging
from pipeline.storage import Listed, Upload, Url
from pipeline.text import printable

_MEMORY = ".docpipe-published.json"
_REPORT = "report.json"
_LAST = ("index.html", _REPORT)
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

_Sent = tuple[int, int, str]  # size and time of the local file, and the stamp that the store gave it


@dataclass(frozen=True, slots=True)
class _Memory:
    """What lies in the store by this job's doing; None for what was about to be sent when it was written."""

    files: Mapping[str, _Sent | None]


def mirror(ledger: Path, job: str) -> Path:
    """Where the report of a job is kept whose folder is a URL: beside its ledger, which jobs may share."""
    return ledger.with_name(f"{ledger.name}.report") / job


def owner(folder: Url) -> str | None:
    """The job whose report is in the folder; None where there is none.

    Raises:
        SettingsError: no such bucket, no permission, no credentials, no package, no way there.
    """
    head = storage.head(folder / _REPORT, reports.OWNER_BYTES)
    return None if head is None else reports.owner_by(head)


def publish(written: Path, folder: Url, job: str) -> None:
    """Bring ``folder`` to what the mirror ``written`` holds; what has not changed is not sent again.

    Raises:
        SettingsError: the store does not take it; it says where the report lies meanwhile.
    """
    try:
        _publish(written, folder, job)
    except SettingsError as error:
        raise SettingsError(
            f"the report could not be put into its folder: {error}. It lies whole in {printable(str(written))}, and all"
            " answers are on record; mend that, then `docpipe report` puts it there without sending anything"
        ) from error


def _publish(written: Path, folder: Url, job: str) -> None:
    there = _stamps(storage.listed(folder))
    here = _files(written)
    last = _remembered(written, folder)
    if last is None:  # a first time, or the mirror was lost
        last = _Memory(dict.fromkeys(_adopted(folder, job) if _REPORT in there else ()))
    foreign = [name for name in here if name in there and name not in last.files]
    if foreign:
        names = f"{printable(foreign[0])}{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}"
        raise SettingsError(f"{folder} holds {names}, which this job did not put there; name another folder")
    due = [name for name, facts in here.items() if name not in there or last.files.get(name) != (*facts, there[name])]
    _remember(written, folder, {**last.files, **dict.fromkeys(due)})  # from now on they are this job's, whatever comes
    for group in ([name for name in due if name not in _LAST], *([name] for name in _LAST if name in due)):
        storage.put(_uploads(written, folder, group), folder)
    storage.delete((folder / name for name in last.files if name in there and name not in here), folder)
    there = _stamps(storage.listed(folder))
    # Ours too is what the store does not list yet.
    _remember(written, folder, {n: (*facts, there[n]) if n in there else None for n, facts in here.items()})


def _uploads(written: Path, folder: Url, names: Iterable[str]) -> Iterable[Upload]:
    return (Upload(written / name, folder / name, _CONTENT_TYPES[Path(name).suffix]) for name in names)


def _adopted(folder: Url, job: str) -> Collection[str]:
    """The files of the report that lies in the folder, if it is this job's."""
    if owner(folder) != job:
        return ()
    with tempfile.TemporaryDirectory(prefix="docpipe-") as place:
        copy = Path(place) / _REPORT
        try:
            asyncio.run(storage.download(str(folder / _REPORT), lambda: copy))
        except OSError as error:
            raise SettingsError(f"{folder}: {error.strerror}") from None
        return reports.files_of(copy)


def _files(written: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of the mirror, by its path in it; names that begin with a dot are no report's."""
    with naming(written):
        found = {
            path: path.stat() for path in written.rglob("*") if path.suffix in _CONTENT_TYPES and path.name[0] != "."
        }
    return {path.relative_to(written).as_posix(): (f.st_size, f.st_mtime_ns) for path, f in found.items()}


def _stamps(listed: Iterable[Listed]) -> dict[str, str]:
    """What tells each version of a file in a store from the next."""
    return {file.path: file.etag or f"{file.size_bytes} {file.mtime_ns}" for file in listed}


def _remembered(written: Path, folder: Url) -> _Memory | None:
    """What was put into this very folder; None when nothing is known of it."""
    try:
        data = json.loads((written / _MEMORY).read_bytes())
        if data["folder"] != str(folder):
            return None
        return _Memory({name: sent and (sent[0], sent[1], sent[2]) for name, sent in data["files"].items()})
    except (OSError, ValueError, TypeError, KeyError, LookupError, AttributeError):
        return None


def _remember(written: Path, folder: Url, files: Mapping[str, _Sent | None]) -> None:
    with staging(written) as staged:
        staged.add(written / _MEMORY, [json.dumps({"folder": str(folder), "files": files}).encode()])
        staged.publish(())
