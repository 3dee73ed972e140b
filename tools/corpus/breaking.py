"""Many broken files, each tried in the sandbox: one that hangs or crashes the reader is a complaint like others."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.sandbox import Sandbox, SandboxError
from pipeline.text import shortened
from tools.corpus.mutations import mutated
from tools.corpus.trials import Trial


@dataclass(frozen=True, slots=True)
class Broken:
    """A broken file, how it was made and how it fared."""

    seed: int
    made: str
    data: bytes
    trial: Trial


async def break_all(
    originals: Mapping[str, bytes], seeds: Iterable[int], done: Callable[[Broken], None], processes: int | None = None
) -> None:
    """One broken file for each seed, as many at once as the sandbox has processes; ``done`` is told of each."""
    waiting = iter(seeds)

    async def work(folder: Path) -> None:
        folder.mkdir()
        for seed in waiting:
            made, data = mutated(seed, originals)
            try:
                trial: Trial = await sandbox.call(len(data), "tools.corpus.trials:tried", data, folder)
            except SandboxError as error:
                trial = Trial(None, 0, (str(error),), 0.0)
            except Exception as error:  # noqa: BLE001 - what nobody has foreseen is what is looked for
                trial = Trial(None, 0, (shortened(f"{type(error).__name__}: {error}", 200),), 0.0)
            done(Broken(seed, made, data, trial))

    # The workers end before their folder goes.
    with tempfile.TemporaryDirectory(prefix="docpipe-corpus-") as spool, Sandbox(processes) as sandbox:
        async with asyncio.TaskGroup() as group:
            for number in range(sandbox.processes):
                group.create_task(work(Path(spool) / str(number)))
