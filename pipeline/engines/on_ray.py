"""Hosts of a Ray cluster, one detached actor on each; the only module that knows ray.

An actor call is made at most once: Ray repeats none with ``max_task_retries=0``, its default
(https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html), and says of each that was lost. Actors that are
detached outlive the driver: they end their calls, keep the outcomes, and the next driver finds them by name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.engine import Host, HostLost, HostSettings, Secrets, Work
from pipeline.engines.ray_host import UNSET, Facts, Raised, RayHost
from pipeline.errors import SettingsError
from pipeline.job import EngineSettings
from pipeline.storage import Url
from pipeline.text import shortened

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is loaded
try:
    import ray
    from ray.exceptions import ActorDiedError, ActorUnavailableError, AuthenticationError, RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise SettingsError("""[engine] use = "ray" needs the package ray: pip install 'docpipe[ray]'""") from None

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEAD_BYTES = 9
_SETTINGS_FRAME = 4
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CONNECT_S = 5.0
_START_S = 60.0  # for a host's process, which loads what it needs
_BACK_S = 30.0  # a host that was started anew answers within
_LOOK_AGAIN_S = 0.5
_ANSWER_S = 5.0  # a host that was lost has so long for a word
_BEAT_S = 60.0
_LET_IN = (
    "this machine must be a node of the cluster (`ray start --head`, or `ray start --address=... --num-cpus 0`), and"
    " where the cluster was started with RAY_AUTH_MODE=token, have the same here and the cluster's token, in"
    " RAY_AUTH_TOKEN or ~/.ray/auth_token"
)


@dataclass(slots=True)
class _Known:
    """A host of the cluster. ``lost`` since a call to it was; ``gone`` for good: its node is, or it cannot work."""

    host: Host
    node: str
    actor: Any
    lost: bool = False
    gone: bool = False


class RayEngine:
    """An ``Engine`` of one host for each node of a cluster that has processors to give.

    ``ledger`` is the identity of the ledger: its hosts are its own. ``folder`` must be seen by each.
    """

    def __init__(
        self, settings: HostSettings, secrets: Secrets, engine: EngineSettings, folder: Path | Url, ledger: str
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._engine = engine
        self._folder = folder
        self._ledger = ledger
        self._actors: dict[str, Any] = {}  # by the ids of their nodes
        self._known: dict[str, _Known] = {}
        self._driver = uuid.uuid4().hex
        self._left_out: list[str] = []
        self._news = threading.Event()
        self._is_over = False

    def open(self) -> Sequence[str]:
        """See ``Engine``.

        Raises:
            SettingsError: no cluster answers, it runs other versions, or a host cannot do the job.
        """
        _connect(self._engine.address, f"docpipe-{self._ledger}")
        try:
            for known in self._started():
                self._known[known.host.name] = known
            if not self._known:
                why = "; ".join(self._left_out) or "no node has processors to give"
                raise SettingsError(f"the Ray cluster at {self._engine.address} has no host for this job: {why}")
        except BaseException:
            self.close({})
            raise
        threading.Thread(target=self._watch, daemon=True).start()
        return [f"left out: {why}" for why in self._left_out]

    def hosts(self) -> Sequence[Host]:
        """See ``Engine``; those that were lost only when there are no others."""
        there = [known for known in self._known.values() if not known.gone]
        return [known.host for known in there if not known.lost] or [known.host for known in there]

    async def call(self, host: str, work: Work) -> Any:
        """See ``Engine``."""
        known = self._known[host]
        if known.lost:
            await self._back(known)
        done = await self._answer(known, known.actor.do.remote(self._driver, work))
        if done == UNSET:  # new, started anew, or another driver's meanwhile; nothing was done
            setting = known.actor.set.remote(self._driver, self._settings, self._secrets)
            await self._answer(known, setting, begun=False)
            done = await self._answer(known, known.actor.do.remote(self._driver, work))
        if done == UNSET:
            raise HostLost(f"the host {known.host.name} works for another driver", begun=False)
        if isinstance(done, Raised):
            if isinstance(done.error, SettingsError):  # what is wrong there may be right on another host
                known.gone = True
                raise HostLost(f"the host {known.host.name} cannot work: {done.error}", begun=False)
            raise done.error
        return done

    async def held(self) -> Mapping[str, str]:
        """See ``Engine``."""
        found: dict[str, str] = {}
        for name, known in self._known.items():
            with suppress(HostLost):
                found |= dict.fromkeys(await self._answer(known, known.actor.held.remote()), name)
        return found

    async def rest(self) -> None:
        """Connections are those of the hosts."""

    def close(self, recorded: Mapping[str, Sequence[str]]) -> None:
        """See ``Engine``; a host that still makes attempts stays until they are kept, for the next run."""
        self._is_over = True
        self._news.set()
        known = {known.node: known for known in self._known.values()}
        with suppress(RayError):
            leaving, alive = {}, _nodes_alive()
            for node, actor in self._actors.items():
                if node not in alive:
                    ray.kill(actor)  # else the cluster waits for its node to come back
                elif node not in known or not known[node].gone:
                    name = known[node].host.name if node in known else ""
                    leaving[actor.leave.remote(recorded.get(name, ()))] = actor
            left, _ = ray.wait(list(leaving), num_returns=len(leaving), timeout=_CONNECT_S) if leaving else ([], [])
            for reference in left:
                with suppress(RayError):
                    if ray.get(reference):
                        ray.kill(leaving[reference])
        ray.shutdown()

    def _started(self) -> Iterator[_Known]:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
        self._actors = {node["NodeID"]: self._actor(node["NodeID"], int(node["Resources"]["CPU"])) for node in nodes}
        greetings = [actor.hello.remote(self._folder) for actor in self._actors.values()]
        for node, (node_id, actor), greeting in zip(nodes, self._actors.items(), greetings, strict=True):
            name = f"{node['NodeManagerAddress']}-{node_id[:8]}"
            if facts := self._greeted(name, node_id, actor, greeting):
                yield _Known(Host(name, self._settings.slots, facts.processes), node_id, actor)

    def _actor(self, node: str, processors: int) -> Any:
        options = {
            "name": f"host-{node}",
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "max_task_retries": 0,  # at most once
            "max_concurrency": 1000 + 2 * self._settings.slots,
            "num_cpus": 0,
            "enable_task_events": False,  # else the cluster's head keeps something of each call
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        spool = self._engine.spool and str(self._engine.spool)
        return ray.remote(RayHost).options(**options).remote(self._ledger, spool, _end_this_actor, max(1, processors))

    def _greeted(self, name: str, node: str, actor: Any, greeting: Any) -> Facts | None:
        """What a host says of itself; None: its node is dead, which the cluster may learn later than we do."""
        facts: Facts | None = None
        deadline_s = time.monotonic() + _START_S
        while facts is None:
            try:
                facts = ray.get(greeting, timeout=_START_S)
            except RayError as error:
                if node not in _nodes_alive():
                    return None
                if not isinstance(error, ActorUnavailableError) or time.monotonic() > deadline_s:
                    self._left_out.append(
                        f"the host {name} cannot be started: {_words(error)}; docpipe {__version__} must be installed"
                        " there, in the environment that Ray was started in"
                    )
                    return None
                time.sleep(_LOOK_AGAIN_S)
                greeting = actor.hello.remote(self._folder)
        if facts.version != __version__:
            self._left_out.append(
                f"the host {name} has docpipe {facts.version}, and this is {__version__}; install one"
            )
            return None
        if not facts.sees_folder:
            self._left_out.append(
                f"the host {name} does not see {self._folder}: put the documents on a share that every host mounts"
                " there, or in a bucket"
            )
            return None
        return facts

    async def _answer(self, known: _Known, reference: Any, begun: bool = True) -> Any:
        try:
            return await reference
        except RayTaskError:
            raise
        except RayError as error:
            known.lost = True
            self._news.set()
            how = "its process ended" if isinstance(error, ActorDiedError) else "it does not answer"
            raise HostLost(f"the host {known.host.name} was lost: {how}", begun) from None

    async def _back(self, known: _Known) -> None:
        """Wait until a host that was lost answers again.

        Raises:
            HostLost: it does not, or never will.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_BACK_S):
                while known.lost and not known.gone:
                    with suppress(RayError, TimeoutError):
                        async with asyncio.timeout(_ANSWER_S):
                            await known.actor.beat.remote()
                            known.lost = False
                            return
                    await asyncio.sleep(_LOOK_AGAIN_S)
        if known.lost:
            raise HostLost(f"the host {known.host.name} {'is gone' if known.gone else 'does not answer'}", begun=False)

    def _watch(self) -> None:
        """Tell the hosts, now and then, that there is a driver, and see whether the nodes of lost ones are alive.

        In a thread of its own, for a cluster whose head is dead answers nobody.
        """
        while not self._is_over:
            with suppress(RayError):
                there = [known for known in self._known.values() if not known.gone]
                alive = _nodes_alive() if any(known.lost for known in there) else None
                for known in there:
                    if alive is not None and known.lost:
                        known.gone = known.gone or known.node not in alive
                    else:
                        known.actor.beat.remote()
            self._news.wait(_LOOK_AGAIN_S if any(known.lost and not known.gone for known in there) else _BEAT_S)
            self._news.clear()


def _connect(address: str, namespace: str) -> None:
    with _own_signals():
        try:
            if address != "auto":
                _call_at(address)
        except OSError as error:
            raise SettingsError(
                f"no Ray cluster answers at {address}: {_words(error)}; start one with `ray start --head`,"
                ' or set [engine] use = "local"'
            ) from None
        try:
            ray.init(address, namespace=namespace, log_to_driver=False, logging_level=logging.CRITICAL)
        except OSError as error:
            raise SettingsError(f"no way into the Ray cluster at {address}: {_words(error)}; {_LET_IN}") from None
        except AuthenticationError:
            raise SettingsError(f"RAY_AUTH_MODE is token, and there is no token: {_LET_IN}") from None
        except RuntimeError as error:
            python = ".".join(map(str, sys.version_info[:3]))
            raise SettingsError(
                f"the Ray cluster at {address} cannot be used with Ray {ray.__version__} and Python {python}:"
                f" {_words(error)}"
            ) from None


def _call_at(address: str) -> None:
    """See whether a cluster may be there: ray itself would wait for minutes.

    The head speaks gRPC, so it begins with a frame of HTTP/2 settings (RFC 9113, 3.4), but not where it wants TLS.

    Raises:
        OSError: nothing answers, or something else does.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), _CONNECT_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            connection.sendall(_HTTP2_PREFACE)
            head = connection.recv(_FRAME_HEAD_BYTES, socket.MSG_WAITALL)
            if len(head) < _FRAME_HEAD_BYTES or head[3] != _SETTINGS_FRAME:
                raise ConnectionError("something else is listening there")


def _nodes_alive() -> set[str]:
    """As far as the cluster knows."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _end_this_actor() -> None:
    """Called in the process of an actor."""
    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what a signal means to this program: ray takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _words(error: BaseException) -> str:
    """In one line what an error says; of one from a host the last line, below the traceback."""
    said = _COLOURS.sub("", str(error)).strip()
    if '\n  File "' in said:
        said = said.rpartition("\n")[2]
    return shortened(" ".join(said.split()), 300)
