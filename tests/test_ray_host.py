"""When a host of a cluster ends by itself, and what it clears away; it knows nothing of Ray, so none is needed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import engines, job
from pipeline.domain import Answer, Chunk, PageRange, Payload
from pipeline.engine import HostSettings, Secrets, Send
from pipeline.engines.ray_host import RayHost
from pipeline.host import HostRunner
from pipeline.pdf import Original, Source
from pipeline.serve import running
from tests.conftest import DEADLINE_S, KEY, Workspace, clause, write_pdf
from tests.gated_endpoint import Gated

WITHOUT_DRIVER_S = 0.02
ENOUGH_LOOKS = 5


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hosts keep what they must keep, a folder for each ledger."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "", raising=False)  # a host changes it for good
    return tmp_path / "cache" / "docpipe" / "hosts"


@pytest.mark.usefixtures("homes")
def test_a_host_that_no_driver_calls_ends() -> None:
    """Also one that none has ever called: the cluster starts a killed host anew, whether there is a driver or not."""

    async def alone() -> None:
        ended = asyncio.Event()
        host = RayHost("ledger", None, ended.set, without_driver_s=WITHOUT_DRIVER_S)
        async with asyncio.timeout(DEADLINE_S):
            await ended.wait()
        assert await host.held() == []

    asyncio.run(alone())


@pytest.fixture
def gated() -> Iterator[tuple[Gated, str]]:
    """An endpoint that keeps its first answer back, and its address."""
    endpoint = Gated(held=1)
    with running(endpoint) as base_url:
        yield endpoint, base_url
        endpoint.let_go()


@pytest.mark.usefixtures("homes")
def test_a_host_ends_only_after_the_attempts_that_it_makes(
    workspace: Workspace, gated: tuple[Gated, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long no driver has called: the answer is paid for, and is kept for the next."""
    endpoint, base_url = gated
    loaded = job.load(workspace.write_job(base_url))
    limits = engines.limits_of(loaded)
    settings = HostSettings(loaded.endpoint, loaded.prompt, loaded.fields, 1_000_000, limits, 0, slots=1)
    path = write_pdf(workspace.docs / "a.pdf", [clause(1)])
    original = Original(Source(str(path), path.stat().st_size, path.stat().st_mtime_ns), 1, must_be_cut=False)
    attempt = Send("1-id", Chunk("id", "content", PageRange(1, 1)), original, Payload(path), True, 1000)
    looks = 0

    def is_busy(runner: HostRunner) -> bool:
        nonlocal looks
        looks += 1
        return bool(runner.held())

    async def left_alone() -> None:
        ended = asyncio.Event()
        host = RayHost("ledger", None, ended.set, without_driver_s=WITHOUT_DRIVER_S)
        await host.set("driver", settings, Secrets(KEY))
        call = asyncio.create_task(host.do("driver", attempt))
        async with asyncio.timeout(DEADLINE_S):
            while not endpoint.seen or looks < ENOUGH_LOOKS:
                await asyncio.sleep(0.001)
            assert not ended.is_set()
            endpoint.let_go()
            assert isinstance(await call, Answer)
            monkeypatch.undo()
            await ended.wait()
        assert await host.held() == ["1-id"]

    monkeypatch.setattr(HostRunner, "is_busy", property(is_busy))
    asyncio.run(left_alone())


def test_what_a_killed_host_had_cut_is_removed_by_the_next(homes: Path) -> None:
    """They are parts of documents; those of a host that is alive stay, as do those of other machines."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    here = socket.gethostname()
    folders = {
        name: homes / "ledger" / name
        for name in (f"spool-{here}-{process.pid}-a", f"spool-{here}-{os.getpid()}-b", f"spool-other-{process.pid}-c")
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
        (folder / "chunk").write_bytes(b"%PDF")

    async def start() -> None:
        RayHost("ledger", None, lambda: None)

    asyncio.run(start())
    assert [folder.exists() for folder in folders.values()] == [False, True, True]
