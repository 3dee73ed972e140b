"""Trouble with the run. Trouble with one document or chunk is a value (``domain.Failure``).

::

    PipelineError                 carries the exit code and a message that says what to do next
    ├── SettingsError             4   the job file, the folder or a missing key
    │   └── NoHostsError          4   every host of the cluster is lost; what was recorded stays recorded
    ├── LockedError               6   another run of this job is under way
    └── LedgerError               8   the ledger is damaged or from a newer version
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says to cron. Stable: a script may branch on them."""

    COMPLETE = 0
    BUG = 1
    USAGE = 2
    INCOMPLETE = 3
    SETTINGS = 4
    ACCOUNT = 5
    LOCKED = 6
    BUDGET = 7
    LEDGER = 8
    API_DOWN = 9
    INTERRUPTED = 130


class PipelineError(Exception):
    """A foreseen end of the run: one line for the user and an exit code."""

    exit_code = ExitCode.BUG


class SettingsError(PipelineError):
    """The job file or its surroundings are wrong; the message lists every problem found."""

    exit_code = ExitCode.SETTINGS


class NoHostsError(SettingsError):
    """No host of a cluster is left that could do anything; the report is written without them."""


class LockedError(PipelineError):
    """Another run holds the lock of this job's ledger."""

    exit_code = ExitCode.LOCKED


class LedgerError(PipelineError):
    """The ledger cannot be read, or was written by a newer version."""

    exit_code = ExitCode.LEDGER
