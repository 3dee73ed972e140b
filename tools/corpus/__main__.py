"""``python -m tools.corpus DIR``: open and cut every PDF below a folder, and say what came of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline import scanner
from pipeline.domain import SourceFile
from pipeline.errors import ExitCode, SettingsError
from pipeline.text import printable
from tools.corpus import table
from tools.corpus.breaking import Broken, break_all
from tools.corpus.examination import examine_all
from tools.corpus.findings import Examined
from tools.corpus.originals import originals
from tools.corpus.trials import Trial


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; 0 when nothing was found that must not happen, else 1."""
    options = parser().parse_args(arguments)
    if options.folder is None and not options.mutate:
        parser().error("name a folder, or --mutate")
    try:
        files = _files(options.folder, options.all) if options.folder else []
    except SettingsError as error:
        print(error, file=sys.stderr)
        return ExitCode.USAGE
    return _break_files(options, files) if options.mutate else _examine_files(options, files)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tools.corpus", description=__doc__)
    made.add_argument("folder", metavar="DIR", type=Path, nargs="?", help="whose PDFs, at any depth")
    made.add_argument("--pages-per-chunk", type=int, default=20, metavar="N", help="default 20")
    made.add_argument("--pictures", action="store_true", help="compare what pages look like, too; slower")
    made.add_argument("--all", action="store_true", help="every file, whatever its name")
    made.add_argument("--json", action="store_true", help="the figures as JSON")
    made.add_argument(
        "--mutate",
        type=int,
        metavar="N",
        help="break N files at random instead: those of DIR, or else small ones of all makes",
    )
    made.add_argument(
        "--seed", type=int, default=1, help="of the first broken file; the next one's is one more; default 1"
    )
    return made


def _files(folder: Path, everything: bool) -> list[SourceFile]:
    """The files that a job of this folder would read; of twins, one."""
    found = scanner.scan(folder, ["**" if everything else "**/*.pdf"], [], follow_links=False, known={})
    return list({file.sha256: file for file in reversed(found.files) if file.sha256}.values())[::-1]


def _examine_files(options: argparse.Namespace, files: Sequence[SourceFile]) -> int:
    examined: list[Examined] = []
    ending = 0

    def done(one: Examined) -> None:
        examined.append(one)
        _progress(len(examined), len(files))

    try:
        asyncio.run(examine_all(options.folder, files, options.pages_per_chunk, options.pictures, done))
    except KeyboardInterrupt:
        ending = ExitCode.INTERRUPTED
    figures = table.summary(examined)
    print(json.dumps(figures, indent=1) if options.json else "\n".join(table.lines(figures)))
    return ending or int(not table.is_clean(figures))


def _break_files(options: argparse.Namespace, files: Sequence[SourceFile]) -> int:
    kept = {file.path: (options.folder / file.path).read_bytes() for file in files} or originals()
    place = Path(tempfile.mkdtemp(prefix="docpipe-broken-"))
    trials: list[Trial] = []
    ending = 0

    def done(broken: Broken) -> None:
        trials.append(broken.trial)
        if broken.trial.complaints:
            (place / f"{broken.seed}.pdf").write_bytes(broken.data)
            print(f"--seed {broken.seed}: {printable(broken.made)}", *broken.trial.complaints, sep="\n    ", flush=True)
        _progress(len(trials), options.mutate)

    try:
        asyncio.run(break_all(kept, range(options.seed, options.seed + options.mutate), done))
    except KeyboardInterrupt:
        ending = ExitCode.INTERRUPTED
    print("\n".join(table.lines_of_trials(trials)))
    complaints = any(trial.complaints for trial in trials)
    if complaints:
        print(f"the files are in {place}")
    else:
        place.rmdir()
    return ending or int(complaints)


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {of} files", end="\n" if done == of else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
