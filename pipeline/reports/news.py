"""What is new in a report against the run that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.domain import Change, DocumentResult, Risk, RunResult
from pipeline.reports.presentation import register


@dataclass(frozen=True, slots=True)
class News:
    """Risks with their documents, worst first, and documents by path; ``removed`` are paths.

    ``recovered`` were not read whole then and are now.
    """

    new_risks: tuple[tuple[DocumentResult, Risk], ...]
    changed_risks: tuple[tuple[DocumentResult, Risk], ...]
    gone_risks: tuple[tuple[DocumentResult, Risk], ...]
    new_documents: tuple[DocumentResult, ...]
    changed_documents: tuple[DocumentResult, ...]
    recovered: tuple[DocumentResult, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return any((
            self.new_risks, self.changed_risks, self.gone_risks, self.new_documents, self.changed_documents,
            self.recovered, self.removed,
        ))  # fmt: skip


def news(result: RunResult) -> News | None:
    """What differs; None when there is no run to compare with."""
    if result.compared is None:
        return None
    rows = register(result)
    documents = result.documents
    return News(
        new_risks=tuple(row for row in rows if row[1].change is Change.NEW),
        changed_risks=tuple(row for row in rows if row[1].change is Change.CHANGED),
        gone_risks=tuple(sorted(_gone(result), key=lambda row: row[1].severity.rank)),
        new_documents=tuple(d for d in documents if d.change is Change.NEW),
        changed_documents=tuple(d for d in documents if d.change is Change.CHANGED),
        recovered=tuple(d for d in documents if d.recovered),
        removed=result.compared.removed,
    )


def _gone(result: RunResult) -> Iterator[tuple[DocumentResult, Risk]]:
    return ((document, risk) for document in result.documents for risk in document.gone_risks)
