"""The figures of cutting, measured on this machine: ``python -m tools.bench_cutting``.

Each figure but the last is that of whole processes, which cut a generated document through ``splitter.cut`` as the
workers of a run do.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pipeline.domain import PageRange
from pipeline.pdf import Source
from pipeline.pdf_writer import Writer, reference
from pipeline.sandbox import Sandbox
from tools.bench import measured, write_documents

_CONTRACTS = Path(__file__).resolve().parents[1] / "sample_docs" / "contracts"


def main() -> None:
    """Measure everything and print one line for each figure."""
    with tempfile.TemporaryDirectory(prefix="docpipe-bench-") as place:
        folder = Path(place)
        _speed(folder)
        _shared_resources(folder / "shared.pdf")
        _scan(folder / "scan.pdf")
        asyncio.run(_sandbox(folder))


def _speed(folder: Path) -> None:
    write_documents(folder, documents=1, pages=600)
    path = folder / "0.pdf"
    rounds = [json.loads(measured(_command(path, 20)).output) for _ in range(3)]
    cutting, looking = (sorted(r["pages"] / r[key] for r in rounds)[1] for key in ("cpu_s", "looking_s"))
    _line("600 pages of text, 20 a chunk", f"{cutting:.0f} pages a second on one core", "at least 800")
    _line("what is on the same pages", f"{looking:.0f} pages a second on one core", "")
    pairs = []
    for _ in range(3):
        alone = _wall_s([_command(path, 20, rounds=20)])
        pairs.append(2 * alone / _wall_s([_command(path, 20, rounds=20)] * 2))
    _line("the same by two processes at once", f"{sorted(pairs)[1]:.2f} times one", "at least 1.7")


def _shared_resources(path: Path) -> None:
    """250 pages, all with one dictionary of 500 pictures; each shows two."""
    write_pictures(path, pages=250, pictures_a_page=2, picture_bytes=60_000, shared=True)
    for pages in (1, 50):
        total = json.loads(measured(_command(path, pages)).output)["bytes"]
        _line(f"500 shared pictures, {pages} a chunk", f"{total / path.stat().st_size:.3f} x the source", "under 1.3")


def _scan(path: Path) -> None:
    """500 pages of one picture each, 181 MB, in chunks of 60 and in one."""
    write_pictures(path, pages=500, pictures_a_page=1, picture_bytes=362_000, shared=False)
    for pages in (60, 500):
        run = measured(_command(path, pages))
        _line(f"a scan of 181 MB, {pages} a chunk", f"peak {run.peak_mb:.0f} MB, {run.cpu_s:.2f} s", "under 150 MB")


async def _sandbox(folder: Path) -> None:
    """The sample contracts opened and cut call by call in a worker process, against the same calls in this one."""

    async def here(size_bytes: int, function: str, *args: object) -> Any:
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(*args)

    with Sandbox(1) as sandbox:
        await _contracts_s(sandbox.call, folder)  # the first call starts the process
        pairs = [(await _contracts_s(here, folder), await _contracts_s(sandbox.call, folder)) for _ in range(7)]
    ratio = sorted(there_s / here_s for here_s, there_s in pairs)[3]
    _line("the sample contracts in a worker process", f"{ratio:.2f} times the time in this one", "at most 1.2")


async def _contracts_s(call: Callable[..., Awaitable[Any]], folder: Path) -> float:
    begun = time.perf_counter()
    for path in sorted(_CONTRACTS.glob("*.pdf")):
        facts = path.stat()
        source = Source(str(path), facts.st_size, facts.st_mtime_ns)
        pages = (await call(facts.st_size, "pipeline.inspector:inspect", source)).pages
        for first in range(1, pages + 1, 20):
            chunk = PageRange(first, min(pages, first + 19))
            await call(facts.st_size, "pipeline.splitter:cut", source, chunk, folder / "chunk.pdf")
    return time.perf_counter() - begun


def _wall_s(commands: list[list[str]]) -> float:
    begun = time.perf_counter()
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert not any(process.wait() for process in processes)
    return time.perf_counter() - begun


def _command(path: Path, pages_a_chunk: int, rounds: int = 1) -> list[str]:
    return [sys.executable, "-m", "tools.bench_cutting", str(path), str(pages_a_chunk), str(rounds)]


def cut_all(path: Path, pages_a_chunk: int, rounds: int) -> None:
    """Cut a whole document, opening included, then look at its pages once, and print what each took."""
    from pipeline import splitter

    facts = path.stat()
    source = Source(str(path), facts.st_size, facts.st_mtime_ns)
    begun, total, pages = time.process_time(), 0, 0
    with tempfile.TemporaryDirectory(prefix="docpipe-bench-") as place:
        for _ in range(rounds):
            pages = splitter.inspect(source, with_layout=False).pages or 0
            for first in range(1, pages + 1, pages_a_chunk):
                chunk = PageRange(first, min(pages, first + pages_a_chunk - 1))
                total += splitter.cut(source, chunk, Path(place) / "chunk.pdf").size_bytes
    cut = time.process_time()
    splitter.inspect(source)
    looked = time.process_time()
    figures = {"pages": pages * rounds, "bytes": total, "cpu_s": cut - begun, "looking_s": looked - cut}
    print(json.dumps(figures))


def write_pictures(path: Path, pages: int, pictures_a_page: int, picture_bytes: int, shared: bool) -> None:
    """A PDF of pictures that do not compress, with one dictionary of resources for all pages or one for each."""
    noise = random.Random(1)
    picture = b"/Type/XObject/Subtype/Image/Width 600/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8"
    with path.open("wb") as out:
        file = Writer(out)
        numbers = [file.reserve() for _ in range(pages * pictures_a_page)]
        for number in numbers:
            file.write_stream(number, picture % (picture_bytes // 600), noise.randbytes(picture_bytes))
        everything = file.reserve()
        file.write(everything, _resources(numbers))
        for page in range(pages):
            shown = numbers[page * pictures_a_page : (page + 1) * pictures_a_page]
            content = file.reserve()
            file.write_stream(content, b"", b"\n".join(b"q 500 0 0 700 40 40 cm /Im%d Do Q" % n for n in shown))
            resources = reference(everything) if shared else _resources(shown)
            entries = b"/MediaBox[0 0 595 842]/Resources %b/Contents %b"
            file.write_page(entries % (resources, reference(content)))
        file.finish(b"")


def _resources(numbers: list[int]) -> bytes:
    return b"<</XObject<<%b>>>>" % b"".join(b"/Im%d %b" % (number, reference(number)) for number in numbers)


def _line(what: str, figure: str, promise: str) -> None:
    print(f"{what:<42} {figure:<52} {promise}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        cut_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
