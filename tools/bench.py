"""The figures that docpipe promises, measured on this machine: ``make bench``, or some: ``python -m tools.bench 640``.

Whole processes against ``docpipe serve`` on loopback, on whatever cores there are. The endpoint does not
read the documents (``--no-read``): what is measured is the pipeline, cutting, ledger and reports included.
Its modules are compiled before, as they are wherever it is installed; that also where the environment keeps Python
from writing bytecode.
"""

from __future__ import annotations

import compileall
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from reportlab.pdfgen.canvas import Canvas

from pipeline import job
from tools import bench_quotes, bench_report, bench_scale

DOCPIPE = [sys.executable, "-m", "pipeline"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One process from start to end. ``peak_mb`` is that of its largest single process."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str


def main() -> None:
    """Measure what the arguments name, or everything, and print one line for each figure."""
    compileall.compile_dir(Path(job.__file__).parent, quiet=1)
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, Python {sys.version.split()[0]}", flush=True)
    with tempfile.TemporaryDirectory(prefix="docpipe-bench-") as place:
        for name in sys.argv[1:] or _FIGURES:
            {**_FIGURES, **_LONG}[name](Path(place) / name)


def _start_up(folder: Path) -> None:
    times = sorted(measured([*DOCPIPE, "--help"]).wall_s for _ in range(7))
    _line("docpipe --help", f"{times[3]:.3f} s (median of 7)", "under 0.3 s")


def _in_flight(folder: Path) -> None:
    """640 one-page chunks at concurrency 64 with an endpoint that takes 2 s: ideally ten rounds of 2 s."""
    write_documents(folder / "docs", documents=8, pages=80)
    with served(latency_s=2.0) as base_url:
        write_job(folder, base_url, concurrency=64)
        run = measured([*DOCPIPE, "run", str(folder / "job.toml"), "--json"])
    assert json.loads(run.output)["requests"] == 640, run.output
    _line("640 chunks, 64 in flight, 2 s each", f"{run.wall_s:.2f} s = {run.wall_s / 20:.3f} x ideal", "at most 1.05 x")


def _against_a_plain_script(folder: Path) -> None:
    """1,000 one-page chunks with an endpoint that takes 0.2 s, beside the script that one would write first."""
    write_documents(folder / "docs", documents=10, pages=100)
    ours, plain = [], []
    with served(latency_s=0.2) as base_url:
        for number in range(3):  # in turn, so that both see the same machine
            write_job(folder / f"run{number}", base_url, concurrency=64, source=folder / "docs")
            ours.append(measured([*DOCPIPE, "run", str(folder / f"run{number}" / "job.toml"), "--json"]))
            script = [sys.executable, "-m", "tools.bench_plain", str(folder / "docs"), base_url, "64"]
            plain.append(measured(script))
    assert json.loads(ours[0].output)["requests"] == 1000, ours[0].output
    a, b = sorted(run.wall_s for run in ours)[1], sorted(run.wall_s for run in plain)[1]
    ratios = ", ".join(f"{x.wall_s / y.wall_s:.2f}" for x, y in zip(ours, plain, strict=True))
    _line("1,000 chunks, 64 in flight, 0.2 s each", f"{a:.2f} s; plain script {b:.2f} s; ratios {ratios}", "below 1")


def _large_bodies(folder: Path) -> None:
    """64 chunks of 10 MB at once."""
    (folder / "docs").mkdir(parents=True)
    noise = random.Random(1)
    for number in range(64):
        write_heavy_pdf(folder / "docs" / f"{number:02}.pdf", noise.randbytes(10_000_000))
    with served(latency_s=5.0) as base_url:
        write_job(folder, base_url, concurrency=64)
        run = measured([*DOCPIPE, "run", str(folder / "job.toml"), "--json"])
    assert json.loads(run.output)["requests"] == 64, run.output
    _line("64 chunks of 10 MB in flight", f"peak {run.peak_mb:.0f} MB, {run.wall_s:.1f} s", "under 300 MB")


def _rescan(folder: Path) -> None:
    """10,000 files, once read and then unchanged."""
    (folder / "docs").mkdir(parents=True)
    write_documents(folder / "seed", documents=1, pages=1)
    seed = (folder / "seed" / "0.pdf").read_bytes()
    for number in range(10_000):
        place = folder / "docs" / f"{number % 100:02}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.pdf").write_bytes(seed + b"\n%% %d\n" % number)
    with served(latency_s=0.0) as base_url:
        write_job(folder, base_url, concurrency=64)
        first = measured([*DOCPIPE, "run", str(folder / "job.toml"), "--json"])
        again = [measured([*DOCPIPE, "run", str(folder / "job.toml"), "--json"]) for _ in range(3)]
        plan = measured([*DOCPIPE, "plan", str(folder / "job.toml"), "--json"])
    assert json.loads(again[0].output)["requests"] == 0, again[0].output
    wall_s = sorted(run.wall_s for run in again)[1]
    _line("10,000 new files, all sent", f"{first.wall_s:.1f} s", "")
    _line("10,000 unchanged files, a whole run", f"{wall_s:.2f} s, peak {again[0].peak_mb:.0f} MB", "under 3 s")
    _line("10,000 unchanged files, plan", f"{plan.wall_s:.2f} s", "")


def _scale(folder: Path) -> None:
    """100,000 files of a ledger that is filled directly; 50 have changed since."""
    write_documents(folder / "seed", documents=1, pages=1)
    seed = (folder / "seed" / "0.pdf").read_bytes()
    bench_scale.write_folder(folder / "docs", seed, files=100_000)
    write_job(folder, "http://127.0.0.1:9", concurrency=64)  # nothing is sent
    loaded = job.load(folder / "job.toml")
    bench_scale.fill(loaded)
    bench_scale.change(folder / "docs", seed, files=100_000, changed=50)
    hashed = bench_scale.hashed(loaded)
    plan = measured([*DOCPIPE, "plan", str(folder / "job.toml")])
    assert "50 changed" in plan.output and "99950 unchanged" in plan.output, plan.output[-300:]  # noqa: PT018
    figure = f"{plan.wall_s:.1f} s ({plan.cpu_s:.1f} s of CPU), peak {plan.peak_mb:.0f} MB; {hashed} files hashed"
    _line("100,000 files, 50 changed, plan", figure, "under 30 s, under 300 MB, 50 files")


def _night(folder: Path) -> None:
    """The same when its reports are written: a whole run that sends the 50 changed files, and one with nothing new."""
    write_documents(folder / "seed", documents=1, pages=1)
    seed = (folder / "seed" / "0.pdf").read_bytes()
    bench_scale.write_folder(folder / "docs", seed, files=100_000)
    with served(latency_s=0.0) as base_url:
        write_job(folder, base_url, concurrency=64)
        bench_scale.fill(job.load(folder / "job.toml"))
        run = [*DOCPIPE, "run", str(folder / "job.toml"), "--json"]
        measured(run)  # writes a page for each document
        again = measured(run)
        bench_scale.change(folder / "docs", seed, files=100_000, changed=50)
        changed = measured(run)
    totals = json.loads(changed.output)
    assert (totals["unchanged"], totals["requests"]) == (99_950, 50), changed.output
    for what, one in (
        ("100,000 unchanged files, a whole run", again),
        ("100,000 files, 50 changed, a whole run", changed),
    ):
        _line(what, f"{one.wall_s:.1f} s ({one.cpu_s:.1f} s of CPU), peak {one.peak_mb:.0f} MB", "")


def _limited(folder: Path) -> None:
    """600 one-page chunks with an endpoint that lets in 300 a minute and does not say so."""
    write_documents(folder / "docs", documents=6, pages=100)
    with served(0.2, "--requests-per-minute", "300", "--no-limit-headers") as base_url:
        write_job(folder, base_url, concurrency=16)
        measured([*DOCPIPE, "run", str(folder / "job.toml"), "--json"])
    with closing(sqlite3.connect(folder / "state.sqlite3")) as ledger:
        ended = ledger.execute("SELECT ended_at, status FROM attempts ORDER BY ended_at").fetchall()
    rows = [(datetime.fromisoformat(at).timestamp(), status) for at, status in ended]
    begun_s = rows[0][0]
    answered = sum(status == 200 for _, status in rows)
    rate = (answered - 1) / (rows[-1][0] - begun_s) * 60
    late = [status for at_s, status in rows if at_s - begun_s > 10]
    refused = sum(status == 429 for status in late) / len(late)
    figure = f"{rate:.0f} answers a minute, {refused:.1%} of requests refused after 10 s"
    _line("600 chunks, at most 300 a minute", figure, "at least 285, under 2 %")


def _report(folder: Path) -> None:
    """index.html of 2,000 documents with 20,000 risks, from its address to the rows in Chromium."""
    opened = bench_report.opened(bench_report.many(documents=2_000, risks=10))
    if opened is None:
        _line("index.html, 20,000 risks", "not measured: no Chromium", "opens in under 2 s")
        return
    made = f"made in {opened.render_s:.1f} s, {opened.size_mb:.0f} MB"
    figure = f"{opened.open_s:.2f} s; filter {opened.filter_s:.2f} s, sort {opened.sort_s:.2f} s; {made}"
    _line("index.html, 20,000 risks", figure, "opens in under 2 s")


def _line(what: str, figure: str, promise: str) -> None:
    print(f"{what:<42} {figure:<52} {promise}", flush=True)


def measured(command: list[str]) -> Measured:
    """Run a command to its end, by the operating system's own account of it."""
    with tempfile.TemporaryFile("w+") as out:
        begun = time.perf_counter()
        environment = {**os.environ, "DOCPIPE_BENCH_KEY": "bench"}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {output[-2000:]}")
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, output)


@contextmanager
def served(latency_s: float, *options: str) -> Iterator[str]:
    """The offline endpoint in a process of its own; gives its base URL."""
    command = [*DOCPIPE, "serve", "--port", "0", "--no-read", "--latency", str(latency_s), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def write_job(folder: Path, base_url: str, concurrency: int, source: Path | None = None) -> None:
    """A job that sends each page alone and asks for no synthesis."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.toml").write_text(
        f"""
        [source]
        folder = "{source or folder / "docs"}"
        [endpoint]
        use = "custom"
        base_url = "{base_url}"
        api_key_env = "DOCPIPE_BENCH_KEY"
        [split]
        max_pages = 1
        [workers]
        concurrency = {concurrency}
        [prompt]
        synthesis = false
        [report]
        folder = "{folder / "reports"}"
        [ledger]
        path = "{folder / "state.sqlite3"}"
        """
    )


def write_documents(folder: Path, documents: int, pages: int) -> None:
    """Contracts of text pages, no two pages alike."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ("supplier", "shall", "deliver", "services", "customer", "payment", "term", "notice", "party", "liability")
    chance = random.Random(7)
    for number in range(documents):
        canvas = Canvas(str(folder / f"{number}.pdf"), invariant=1, pageCompression=1)
        for page in range(pages):
            canvas.setFont("Helvetica", 8)  # every word stands on the page
            for line in range(45):
                text = " ".join(chance.choice(words) for _ in range(12))
                canvas.drawString(60, 790 - 16 * line, f"{page + 1}.{line} {text}")
            canvas.showPage()
        canvas.save()


_IMAGE = (
    b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8 "
    b"/Length %d >>\nstream\n%b\nendstream"
)


def write_heavy_pdf(path: Path, *payloads: bytes) -> None:
    """A page for each payload, an image of so many bytes that do not compress."""
    kids = b" ".join(b"%d 0 R" % (3 + 3 * number) for number in range(len(payloads)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, len(payloads)),
    ]
    for payload in payloads:
        side = int(len(payload) ** 0.5)
        image = payload[: side * side]
        at = len(objects) + 2
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 600] /Resources <</XObject <</I %d 0 R>> >> "
            b"/Contents %d 0 R>>" % (at, at + 1),
            _IMAGE % (side, side, len(image), image),
            b"<< /Length 28 >>\nstream\nq 600 0 0 600 0 0 cm /I Do Q\nendstream",
        ]
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    path.write_bytes(out)


def _quotes(folder: Path) -> None:
    """True quotes of the sample contracts and changed ones; see ``tools.bench_quotes`` for what was done to them."""
    rows = bench_quotes.measure(bench_quotes.SAMPLES, bench_quotes.QUOTES)
    for is_true, words, promise in ((True, "true", "at least 99 %"), (False, "changed", "none")):
        of_these = [row for row in rows if row.is_true is is_true]
        verified, quotes = sum(row.verified for row in of_these), sum(row.quotes for row in of_these)
        _line(f"quotes verified, {words} ones", f"{verified} of {quotes}", promise)


_FIGURES = {
    "help": _start_up,
    "640": _in_flight,
    "plain": _against_a_plain_script,
    "large": _large_bodies,
    "rescan": _rescan,
    "scale": _scale,
    "limited": _limited,
    "quotes": _quotes,
    "report": _report,
}
_LONG = {"night": _night}  # by name alone: it takes ten minutes and more


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    main()
