"""What a bench has found, added up and printed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.text import printable
from tools.corpus.findings import Examined, Kind
from tools.corpus.trials import Trial

_SLOWEST = 5
_MOST_FINDINGS = 50


def normalised(reason: str) -> str:
    """A reason without what differs from file to file: numbers, and what is quoted from the file."""
    plain = re.sub(r"b?'(?:[^'\\]|\\.)*'|b\"(?:[^\"\\]|\\.)*\"", "'…'", reason)
    return re.sub(r"\d+", "N", plain)


def summary(examined: Sequence[Examined]) -> dict[str, Any]:
    """The figures, with JSON types and stable keys; times in seconds, sizes in bytes or MB."""
    whole = [e for e in examined if e.pages and e.pages_cut == e.pages]
    seconds = sum(e.reading_s for e in examined)
    heaviest = max(examined, key=lambda e: e.peak_mb, default=None)
    return {
        "files": len(examined),
        "opened": sum(e.pages is not None for e in examined),
        "pages": sum(e.pages or 0 for e in examined),
        "noted": _grouped((e.note, e.path) for e in examined if e.note),
        "not_opened": _grouped((e.problem, e.path) for e in examined if e.problem),
        "pages_cut": sum(e.pages_cut for e in examined),
        "pages_not_cut": _grouped((reason, e.path) for e in examined for _, reason in e.uncut),
        "pages_compared": sum(e.compared for e in examined),
        "pages_not_compared": dict(sum((e.uncompared for e in examined), Counter())),
        **{kind.value: sum(f.weight for e in examined for f in e.findings if f.kind == kind) for kind in Kind},
        "findings": [
            {
                "path": printable(e.path),
                "kind": f.kind.value,
                "pages": str(f.pages or ""),
                "detail": printable(f.detail),
            }
            for e in examined
            for f in e.findings
        ],
        "slowest": [
            {"path": printable(e.path), "seconds": round(e.reading_s, 3), "pages": e.pages}
            for e in sorted(examined, key=lambda e: -e.reading_s)[:_SLOWEST]
        ],
        "pages_per_second": round(sum(e.pages_cut for e in examined) / seconds) if seconds else None,
        "chunks": sum(e.chunks for e in examined),
        "chunk_bytes_per_source_byte": _ratio(sum(e.chunk_bytes for e in whole), sum(e.size_bytes for e in whole)),
        "peak_mb": round(heaviest.peak_mb) if heaviest else None,
        "peak_path": printable(heaviest.path) if heaviest else None,
    }


def _grouped(reasons: Iterable[tuple[str | None, str]]) -> list[dict[str, Any]]:
    """Reasons, normalised, the most frequent first; each with its count and the first file that has it."""
    groups: dict[str, dict[str, Any]] = {}
    for reason, path in reasons:
        key = printable(normalised(reason or ""))
        group = groups.setdefault(key, {"count": 0, "reason": key, "example": printable(path)})
        group["count"] += 1
    return sorted(groups.values(), key=lambda group: (-group["count"], group["reason"]))


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def is_clean(figures: dict[str, Any]) -> bool:
    """Whether nothing was found that must not happen."""
    return not figures["findings"]


def lines(figures: dict[str, Any]) -> Iterable[str]:
    """The figures as a person reads them."""
    yield _line("files", figures["files"])
    yield _line("opened", f"{figures['opened']} with {figures['pages']} pages")
    yield from _group_lines("opened with a note", figures["noted"])
    yield from _group_lines("not opened", figures["not_opened"])
    yield _line("pages cut", f"{figures['pages_cut']} in {figures['chunks']} chunks")
    yield from _group_lines("pages not cut, with a reason", figures["pages_not_cut"])
    yield _line("pages compared", figures["pages_compared"])
    for reason, count in figures["pages_not_compared"].items():
        yield _indented(count, f"not compared: {reason}")
    for kind in Kind:
        yield _line(kind.value.replace("_", " "), figures[kind.value])
    for finding in figures["findings"][:_MOST_FINDINGS]:
        where = f" page {finding['pages']}" if finding["pages"] else ""
        yield f"    {finding['kind']}: {finding['path']}{where}: {finding['detail']}"
    yield _line("pages a second, in one process", figures["pages_per_second"])
    yield _line("chunks / source, in bytes", figures["chunk_bytes_per_source_byte"])
    yield _line("peak memory of a worker", f"{figures['peak_mb']} MB, at the latest with {figures['peak_path']}")
    for slow in figures["slowest"]:
        yield _line("slowest", f"{slow['seconds']:.2f} s, {slow['pages']} pages: {slow['path']}")


def lines_of_trials(trials: Sequence[Trial]) -> Iterable[str]:
    """How broken files fared, added up."""
    yield _line("broken files", len(trials))
    yield _line("refused with a reason", sum(trial.pages is None for trial in trials))
    yield _line("opened", sum(trial.pages is not None for trial in trials))
    yield _line("of these with refused pages", sum(trial.uncut > 0 for trial in trials))
    yield _line("with a complaint", sum(bool(trial.complaints) for trial in trials))
    yield _line("longest call", f"{max((trial.longest_s for trial in trials), default=0.0):.2f} s")


def _group_lines(what: str, groups: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield _line(what, sum(group["count"] for group in groups))
    for group in groups:
        yield _indented(group["count"], f"{group['reason']} ({group['example']})")


def _line(what: str, figure: object) -> str:
    return f"{what:<32} {figure}"


def _indented(count: int, text: str) -> str:
    return f"    {count:>6} {text}"
