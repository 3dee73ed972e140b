"""How long index.html of a large job takes to open in a browser: part of ``make bench``."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from pipeline.domain import (
    Change,
    Comparison,
    DocumentResult,
    DocumentStatus,
    QuoteCheck,
    Risk,
    RunInfo,
    RunResult,
    RunStatus,
    Severity,
    Spending,
)
from pipeline.reports import html

_WORDS = (
    "supplier", "shall", "deliver", "services", "customer", "payment", "term", "notice", "party", "liability",
    "without", "limit", "fees", "may", "rise",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """Seconds from the address to the rows, for a filter and for a sort; and what it took to make the page."""

    open_s: float
    filter_s: float
    sort_s: float
    render_s: float
    size_mb: float


def many(documents: int, risks: int) -> RunResult:
    """A run over so many documents with so many risks each, no two texts alike."""
    chance = random.Random(7)

    def text(words: int) -> str:
        return " ".join(chance.choices(_WORDS, k=words))

    def found() -> Iterator[Risk]:
        for number in range(risks):
            check = chance.choice(list(QuoteCheck))
            change = Change.NEW if chance.random() < 0.02 else None
            severity = chance.choice(list(Severity))
            yield Risk(
                text(6), chance.choice(_WORDS), severity, number + 1, text(40), text(30), text(25), check, change=change
            )

    run = RunInfo(
        "r", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", RunStatus.COMPLETE, 0, "anthropic", "claude", "1"
    )
    done = DocumentStatus.DONE
    results = tuple(
        DocumentResult(
            f"department {number % 40}/contract {number}.pdf", f"{number:064}", 200_000, 20, done, None, (), text(80),
            None, "contract", (text(2), text(2)), (), tuple(found()), (), False,
        )
        for number in range(documents)
    )  # fmt: skip
    return RunResult(
        "large", "Large", run, Spending(), results, False, compared=Comparison("q", "2025-12-31T00:00:00Z")
    )


def opened(result: RunResult) -> Opened | None:
    """The middle one of five times, each from a file to the first rows; None where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    begun = time.perf_counter()
    page_bytes = "".join(html.render(result)).encode()
    render_s = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        index = Path(folder) / "index.html"
        index.write_bytes(page_bytes)
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=chromium, args=flags) as browser:
            times = sorted(_times(browser.new_page(), index) for _ in range(5))
    return Opened(*times[2], render_s, len(page_bytes) / 1e6)


def _times(page: Page, index: Path) -> tuple[float, float, float]:
    rows = page.locator("#register tbody tr")
    begun = time.perf_counter()
    page.goto(index.as_uri())
    rows.first.wait_for()
    shown = time.perf_counter()
    page.locator("#register input[name=q]").fill("liability limit")
    filtered = time.perf_counter()
    page.locator("#register th button", has_text="Risk").click()
    ended = time.perf_counter()
    page.close()
    return shown - begun, filtered - shown, ended - filtered
