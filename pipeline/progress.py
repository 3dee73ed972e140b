"""How a run shows itself on stderr: a bar on a terminal, elsewhere a line per event or nothing, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline.domain import ChunkState, Outcome, Split, Task
from pipeline.happenings import Due, NullObserver, told
from pipeline.text import printable

if TYPE_CHECKING:
    from pipeline.bar import Bar
    from pipeline.json_lines import JsonLines


class Lines(NullObserver):
    """One line per event, for logs: no escape sequences, nothing overwritten."""

    def __init__(self) -> None:
        self._names: Mapping[str, str] = {}
        self._due = Due()

    def found(self, names: Mapping[str, str]) -> None:
        """Told the path of each content."""
        self._names = names

    def due(self, tasks: Sequence[Task]) -> None:
        """Told of more to send."""
        self._due = self._due.and_more(tasks)

    def all_due(self) -> None:
        """Told that this is all."""
        self.said(f"sending {self._due} in all")

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """What became of one attempt."""
        self.said(told(self._names, task, outcome, state, again_in_s))

    def said(self, line: str) -> None:
        """A line of its own; a reader that has gone away, as in ``| head``, is no reason to end the run."""
        with suppress(OSError):
            print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def shown(by_line: bool, as_json: bool = False) -> Iterator[Bar | Lines | NullObserver | JsonLines]:
    """The right one for where stderr leads; ``by_line``: where that is no terminal, somebody reads the events.

    ``as_json``: events as JSON, wherever that is.
    """
    if as_json:
        from pipeline.json_lines import JsonLines

        yield JsonLines()
        return
    if not sys.stderr.isatty():
        # Whatever stands on stderr cron mails, and what went wrong stands in the summary.
        yield Lines() if by_line else NullObserver()
        return
    from pipeline.bar import on_terminal  # loads slowly, and cron has no terminal

    with on_terminal() as bar:
        yield bar
