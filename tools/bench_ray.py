"""The hosts of a Ray cluster beside this machine alone: ``make bench-ray``, or one figure: ``... bench_ray wall``.

The cluster has two nodes of one processor each, all on this machine, and runs before anything is measured. So the
figures say what the engine costs, not what more machines bring: both engines share the same cores, disk and endpoint.
"""

from __future__ import annotations

import compileall
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ray.cluster_utils import Cluster

from pipeline import job
from tools.bench import DOCPIPE, Measured, measured, served, write_heavy_pdf, write_job

_ROUNDS = 3
_PROMISE = "at most 1.15 x local"
_CONCURRENCY = 64
_PAGE_BYTES = 149_000  # in base64 with the prompt around it 200 KB


@dataclass(frozen=True, slots=True)
class _Timed:
    """A run: the whole process, and in it the time from the first request that began to the last that ended."""

    run: Measured
    sending_s: float


def main() -> None:
    """Measure what the arguments name, or everything, and print one line for each figure."""
    compileall.compile_dir(Path(job.__file__).parent, quiet=1)
    print(f"{len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}", flush=True)
    with tempfile.TemporaryDirectory(prefix="docpipe-bench-") as place, _cluster() as address:
        for name in sys.argv[1:] or _FIGURES:
            _FIGURES[name](Path(place) / name, address)


def _wall(folder: Path, address: str) -> None:
    """2,000 chunks with bodies of 200 KB, cut from 100 documents, with an endpoint that takes 0.5 s."""
    noise = random.Random(1)
    (folder / "docs").mkdir(parents=True)
    for number in range(100):
        write_heavy_pdf(folder / "docs" / f"{number:03}.pdf", *(noise.randbytes(_PAGE_BYTES) for _ in range(20)))
    local: list[_Timed] = []
    ray: list[_Timed] = []
    with served(latency_s=0.5) as base_url:
        for number in range(_ROUNDS):  # in turn, so that both see the same machine
            local.append(_timed(_job(folder / f"local{number}", base_url, folder / "docs"), chunks=2_000))
            ray.append(_timed(_job(folder / f"ray{number}", base_url, folder / "docs", address), chunks=2_000))
    for what, ours, theirs, promise in (
        ("first request to last answer", [t.sending_s for t in ray], [t.sending_s for t in local], _PROMISE),
        ("the whole run", [t.run.wall_s for t in ray], [t.run.wall_s for t in local], ""),
    ):
        a, b = _median(ours), _median(theirs)
        spread = ", ".join(f"{x / y:.2f}" for x, y in zip(ours, theirs, strict=True))
        _line(f"2,000 chunks, {what}", f"{a:.2f} s, local {b:.2f} s: {a / b:.3f} x ({spread})", promise)
    driver, alone = (_median([t.run.cpu_s for t in timed]) for timed in (ray, local))
    _line("processor time of the driver", f"{driver:.1f} s; of the local run {alone:.1f} s, all of it", "")


def _memory(folder: Path, address: str) -> None:
    """50,000 small chunks, cut from 500 documents, with an endpoint that takes no time."""
    noise = random.Random(2)
    (folder / "docs").mkdir(parents=True)
    for number in range(500):
        write_heavy_pdf(folder / "docs" / f"{number:03}.pdf", *(noise.randbytes(400) for _ in range(100)))
    with served(latency_s=0.0) as base_url:
        path = _job(folder / "ray", base_url, folder / "docs", address)
        resident, wall_s = _watched([*DOCPIPE, "run", str(path), "--json"])
    ended_s = _ended_s(path.parent / "state.sqlite3")
    assert len(ended_s) == 50_000, len(ended_s)
    tenth, half, whole = (_at(resident, ended_s[int(share * len(ended_s)) - 1]) / 1e6 for share in (0.1, 0.5, 1.0))
    figure = f"{tenth:.0f} / {half:.0f} / {whole:.0f} MB at 10 / 50 / 100 %"
    _line("50,000 chunks, memory of the driver", figure, "flat")
    peak_mb = max(size_bytes for _, size_bytes in resident) / 1e6
    per_chunk = (whole - tenth) * 1e6 / 45_000
    _line("", f"{per_chunk:.0f} bytes a chunk; with the reports {peak_mb:.0f} MB; {wall_s:.0f} s", "")


def _job(folder: Path, base_url: str, source: Path, address: str | None = None) -> Path:
    write_job(folder, base_url, _CONCURRENCY, source)
    path = folder / "job.toml"
    if address:
        with path.open("a") as file:
            file.write(f'[engine]\nuse = "ray"\naddress = "{address}"\nslots_per_host = {_CONCURRENCY // 2}\n')
    return path


def _timed(path: Path, chunks: int) -> _Timed:
    run = measured([*DOCPIPE, "run", str(path), "--json"])
    assert json.loads(run.output)["requests"] == chunks, run.output
    with closing(sqlite3.connect(path.parent / "state.sqlite3")) as ledger:
        begun, ended = ledger.execute("SELECT min(begun_at), max(ended_at) FROM attempts").fetchone()
    return _Timed(run, (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds())


def _watched(command: Sequence[str]) -> tuple[list[tuple[float, int]], float]:
    """Run a command; each second its Unix time and resident bytes, and the seconds that it took."""
    seen: list[tuple[float, int]] = []
    ended = threading.Event()
    begun_s = time.time()
    environment = {**os.environ, "DOCPIPE_BENCH_KEY": "bench"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        pages = Path(f"/proc/{process.pid}/statm")

        def watch() -> None:
            while not ended.wait(1.0):
                seen.append((time.time(), int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")))

        watcher = threading.Thread(target=watch)
        watcher.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # while it can still be looked at
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return seen, time.time() - begun_s


def _ended_s(ledger: Path) -> list[float]:
    with closing(sqlite3.connect(ledger)) as connection:
        rows = connection.execute("SELECT ended_at FROM attempts ORDER BY ended_at").fetchall()
    return [datetime.fromisoformat(at).timestamp() for (at,) in rows]


def _at(seen: Sequence[tuple[float, int]], when_s: float) -> int:
    return min(seen, key=lambda one: abs(one[0] - when_s))[1]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _line(what: str, figure: str, promise: str) -> None:
    print(f"{what:<42} {figure:<62} {promise}", flush=True)


@contextmanager
def _cluster() -> Iterator[str]:
    """Two nodes of one processor each; gives the head's address."""
    # The endpoint is on this machine for the bench alone, and hosts would give way to it.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
    os.environ["PYTHONPATH"] = str(Path(job.__file__).parent.parent)  # also where docpipe is not installed
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


_FIGURES = {"wall": _wall, "memory": _memory}


if __name__ == "__main__":
    main()
