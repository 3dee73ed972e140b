"""``python -m tools.torture --rounds 20 --seed 7``: a line for each round; code 1 at the first that fails."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tools.torture import documents
from tools.torture.checks import Risks
from tools.torture.disturbances import steps_of
from tools.torture.rounds import RoundFailedError, folder_of, play, undisturbed_risks
from tools.torture.scene import scene

ROUNDS = 24
SEED = 1


def main(arguments: list[str] | None = None) -> int:
    """Play the rounds of the command line; 0 when all were survived, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how many; default {ROUNDS}")
    parser.add_argument(
        "--seed", type=int, default=SEED, help=f"of the first; the next one's is one more; default {SEED}"
    )
    options = parser.parse_args(arguments)
    place = Path(tempfile.mkdtemp(prefix="docpipe-torture-"))
    return survived(place, range(options.seed, options.seed + options.rounds))


def survived(place: Path, seeds: range) -> int:
    """Play the rounds of these seeds below ``place``, which is removed when all were survived."""
    begun_s = time.monotonic()
    pool = documents.pool(place)
    with scene(place / "undisturbed", random.Random(0)) as calm:
        risks = undisturbed_risks(calm, pool)
    for seed in seeds:
        if not _survived(place, seed, pool, risks):
            return 1
    shutil.rmtree(place)
    print(f"{len(seeds)} rounds survived in {time.monotonic() - begun_s:.0f} s")
    return 0


def _survived(place: Path, seed: int, pool: tuple[documents.Document, ...], risks: Risks) -> bool:
    begun_s = time.monotonic()
    folder = folder_of(place, seed)
    with scene(folder, random.Random(f"scene {seed}")) as stage:
        try:
            played = play(stage, pool, risks, steps_of(seed), seed)
        except RoundFailedError as error:
            print(f"round {seed} FAILED\n{error}\n\nits folder: {folder}")
            print(f"to repeat it: python -m tools.torture --seed {seed} --rounds 1", flush=True)
            return False
    story = "; ".join(played.story)
    counts = f"{len(played.processes)} processes, {len(stage.endpoint.seen)} requests, {played.checks_made} checks"
    print(f"round {seed}: {story} | {counts}, {time.monotonic() - begun_s:.1f} s", flush=True)
    shutil.rmtree(folder)
    return True


if __name__ == "__main__":
    sys.exit(main())
