"""A Ray cluster of several nodes on this machine: real processes, which can be killed like a machine that fails."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0
_MARK = "DOCPIPE_TEST_CLUSTER"
_NOT_FOR_NODES = ("_PROXY", "_KEY")
_NO_FIXED_PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
_LEAST_MEMORY = "--object-store-memory=80000000"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the cluster; ``command`` is what ``ps`` shows."""

    pid: int
    session: int
    command: str
    environ: bytes

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def is_host(self) -> bool:
        """Whether it is the process of one of our actors; ray names it."""
        return "RayHost" in self.command or "ray::host-" in self.command

    @property
    def is_sandbox(self) -> bool:
        """Whether it belongs to the worker processes of a host, which open documents."""
        return "multiprocessing.forkserver" in self.command


class Node:
    """A node: everything that ``ray start`` started. It leads a session, so all of it is killed at once."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self._log = log
        command = [str(Path(sys.executable).with_name("ray")), "start", *arguments, "--block"]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environ, start_new_session=True
            )

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self._process.poll() is not None

    @property
    def session(self) -> int:
        """By which its processes are known."""
        return self._process.pid

    def wait(self) -> str:
        """What it printed until it had started."""
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in (said := self._log.read_text()):
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        return said

    def kill(self) -> None:
        """SIGKILL for raylet, workers and all: no process of it can do anything more."""
        while left := [process for process in everything_that_runs() if process.session == self.session]:
            for process in left:
                process.kill()
        self._process.wait()


class RayCluster:
    """A head, which has processors of its own, and a second node; each has a cache folder of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
        self._mark = uuid.uuid4().hex
        self.nodes: list[Node] = []
        self._numbers = itertools.count()
        self._head = self._started("--head", "--port=0", "--include-dashboard=false", f"--temp-dir={self.folder}")
        found = re.search(r"--address='([\d.]+:\d+)'", self._head.wait())
        assert found
        self.address = found[1]
        self.heal()

    def add(self, python_path: Path = ROOT) -> Node:
        """One more node, which imports from ``python_path``."""
        node = self._started(f"--address={self.address}", python_path=python_path)
        node.wait()
        return node

    def heal(self) -> None:
        """Start another second node where it was killed."""
        self.nodes = [node for node in self.nodes if not node.is_dead]
        if len(self.nodes) < 2:
            self.add()

    def processes(self) -> list[Process]:
        """All that run, on any node: the worker processes of a host have sessions of their own."""
        sessions, mark = {node.session for node in self.nodes}, f"{_MARK}={self._mark}".encode()
        return [process for process in everything_that_runs() if process.session in sessions or mark in process.environ]

    def hosts(self) -> list[Process]:
        """The processes of our actors."""
        return [process for process in self.processes() if process.is_host]

    def stop(self) -> None:
        """Kill all that is left, and remove what it wrote."""
        while left := self.processes():
            for process in left:
                process.kill()
            for node in self.nodes:
                node.kill()
        shutil.rmtree(self.folder)

    def _started(self, *arguments: str, python_path: Path = ROOT) -> Node:
        number = next(self._numbers)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.upper().endswith(_NOT_FOR_NODES)},
            "PYTHONPATH": str(python_path),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "300",  # after how long it is known that a node is dead
            "XDG_CACHE_HOME": str(self.folder / f"cache-{number}"),
            _MARK: self._mark,
        }
        node = Node(
            ["--num-cpus=1", _LEAST_MEMORY, *_NO_FIXED_PORTS, *arguments], environ, self.folder / f"node-{number}.log"
        )
        self.nodes.append(node)
        return node


def everything_that_runs() -> list[Process]:
    """The processes of this machine that may be looked at and have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # it has ended, or is another user's
                environ = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command:
                    found.append(Process(int(folder.name), os.getsid(int(folder.name)), command, environ))
    return found


def connections(pid: int, port: int) -> int:
    """How many TCP connections to a port of this machine a process has open."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(str(handle.readlink()))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(f"socket:[{line[9]}]" in inodes and int(line[2].split(":")[1], 16) == port for line in lines)
