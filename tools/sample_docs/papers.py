"""The papers of the ``invoices`` and ``reports`` jobs: short ones that say much in fields."""

from __future__ import annotations

from tools.sample_docs import scan
from tools.sample_docs.contracts import text_of
from tools.sample_docs.markup import parse
from tools.sample_docs.typeset import GERMAN, SANS, SERIF, Look, contract_pdf

_INVOICES: dict[str, tuple[str, Look, str, str]] = {
    "hollins-bray-2026-0417.pdf": ("invoice-hollins", SANS, "Hollins & Bray Limited", "HB-2026-0417"),
    "rechnung-brandt-88213.pdf": ("invoice-brandt-de", GERMAN, "Brandt Fördertechnik", "88213"),
    "corvane-january.pdf": ("invoice-corvane", SERIF, "Corvane Cloud Services", "CCS-20260131-07"),
}
_REPORTS: dict[str, tuple[str, Look, str, str]] = {
    "site-inspection-fellgate.pdf": ("report-site-inspection", SANS, "Site Inspection", "SI-2026-014"),
    "quarter-1-2026.pdf": ("report-quarter", SERIF, "Quarterly Report", "QR-2026-1"),
    "pruefbericht-rollenbahn.pdf": ("report-audit-de", GERMAN, "Prüfbericht", "P-2026-03"),
}
_SCAN = "tolland-scan.jpg"


def invoices() -> dict[str, bytes]:
    """Bytes by file name, the same every time; one of them is an image from a scanner."""
    (page,) = scan.page_jpegs(parse(text_of("invoice-tolland-scan")))
    return {**_typeset(_INVOICES), _SCAN: page}


def reports() -> dict[str, bytes]:
    """Bytes by file name, the same every time."""
    return _typeset(_REPORTS)


def _typeset(papers: dict[str, tuple[str, Look, str, str]]) -> dict[str, bytes]:
    return {
        name: contract_pdf(parse(text_of(text)), look, title, reference)
        for name, (text, look, title, reference) in papers.items()
    }
