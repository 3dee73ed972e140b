"""The files of the ``trouble`` job: broken in ways that real folders have, or with names that ask for care."""

from __future__ import annotations

from tools.sample_docs.contracts import text_of
from tools.sample_docs.markup import parse
from tools.sample_docs.typeset import SERIF, Protection, contract_pdf

_HTML = b"""<!DOCTYPE html>
<html lang="en">
<head><title>Sign in</title></head>
<body><h1>Your session has ended</h1><p>Please sign in again to download this document.</p></body>
</html>
"""

ODD_NAMES = (
    'it\'s a "quoted" name.pdf',
    "Ünïcödé 合同.PDF",
    "=1+1.pdf",
    "<img src=x onerror=alert(1)>.pdf",
)
"""Names of good files that a report, a shell or a spreadsheet might take for something else."""


def files() -> dict[str, bytes]:
    """Bytes by file name; the same every time."""
    catering = parse(text_of("good-contract"))
    good = contract_pdf(catering, SERIF, "Catering Services Agreement", "FT-2025-07")
    locked = contract_pdf(
        catering, SERIF, "Catering Services Agreement", "FT-2025-07", Protection(user="fennimore", owner="fennimore")
    )
    letter = parse(text_of("short-letter"))
    odd = {
        name: contract_pdf(letter, SERIF, "Letter of Engagement", f"WT-2025-{number:02}")
        for number, name in enumerate(ODD_NAMES, start=1)
    }
    return {
        "good-contract.pdf": good,
        "locked.pdf": locked,
        "truncated.pdf": good[: len(good) * 6 // 10],
        "empty.pdf": b"",
        "really-html.pdf": _HTML,
        **odd,
    }
