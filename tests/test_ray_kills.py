"""Whatever part of a cluster is killed: each request is made at most once, and what was paid for is taken in."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from pipeline.domain import RULES_MODEL
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.offline import Reply
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, KEY, Workspace, clause, wait_until, write_pdf
from tests.gated_endpoint import Gated
from tests.ray_cluster import Process, RayCluster, connections, everything_that_runs

pytestmark = pytest.mark.ray

DOCUMENTS = 4
PAGES = 3
CHUNKS = DOCUMENTS * PAGES
CONCURRENCY = 4
OURS = re.compile(r"sending |\d\.pdf, page |job: |stopping: |interrupted; |\d requests? ", re.ASCII)


@dataclass(frozen=True, slots=True)
class Site:
    """A job that runs on a cluster."""

    workspace: Workspace
    cluster: RayCluster
    endpoint: Gated
    base_url: str

    def write_job(self, more: Mapping[str, Mapping[str, object]] = MappingProxyType({}), **engine: object) -> None:
        for number in range(DOCUMENTS):
            write_pdf(self.workspace.docs / f"{number}.pdf", [clause(number * 100 + page) for page in range(PAGES)])
        self.workspace.write_job(
            self.base_url,
            engine={"use": "ray", "address": self.cluster.address, "slots_per_host": CONCURRENCY, **engine},
            split={"max_pages": 1},
            workers={"concurrency": CONCURRENCY},
            prompt={"synthesis": False},
            retry={"first_wait_seconds": 0.01, "max_wait_seconds": 5.0},
            **more,
        )

    def start(self) -> subprocess.Popen[str]:
        return self.workspace.start("run", str(self.workspace.job_file), "--verbose")

    def run(self) -> tuple[int, str]:
        """To its end: exit code and stderr."""
        code, _, err = self.workspace.docpipe("run", str(self.workspace.job_file), "--verbose")
        return code, err

    def at_once(self) -> list[Process]:
        """The hosts, when as many requests as are allowed are in flight on them; first the one with the most."""
        wait_until(lambda: len(self.endpoint.seen) == CONCURRENCY)
        return sorted(self.cluster.hosts(), key=self.in_flight_on, reverse=True)

    def in_flight_on(self, host: Process) -> int:
        return connections(host.pid, int(self.base_url.rpartition(":")[2]))

    def kept(self) -> list[Path]:
        """What hosts have on their disks."""
        return [path for path in self.cluster.folder.glob("cache-*/docpipe/hosts/**/*") if path.is_file()]

    def asked(self) -> Counter[str]:
        """How often each request was made."""
        return Counter(seen.sha256 for seen in self.endpoint.seen)

    def answered(self) -> int:
        return sum(seen.answered for seen in self.endpoint.seen)


@pytest.fixture
def site(workspace: Workspace, cluster: RayCluster) -> Iterator[Site]:
    """Two nodes, whatever an earlier test did to one."""
    cluster.heal()
    endpoint = Gated(held=CONCURRENCY)
    with running(endpoint) as base_url:
        yield Site(workspace, cluster, endpoint, base_url)
        endpoint.let_go()


def end(process: subprocess.Popen[str]) -> str:
    """Its stderr, when it has ended: lines of ours alone, whatever was killed."""
    err = process.communicate(timeout=DEADLINE_S)[1]
    assert [line for line in err.splitlines() if line and not OURS.match(line)] == []
    return err


def test_only_what_was_in_flight_on_a_killed_host_is_sent_again(site: Site) -> None:
    """The host is started anew by the cluster, and what it was at goes out once more; the run completes."""
    site.write_job()
    with site.start() as process:
        victim, *others = site.at_once()
        lost = site.in_flight_on(victim)
        victim.kill()
        wait_until(lambda: {p.pid for p in site.cluster.hosts()} > {p.pid for p in others})
        site.endpoint.let_go()
        err = end(process)
    assert process.returncode == 0, err
    assert lost > 0
    assert sorted(site.asked().values()) == [1] * (CHUNKS - lost) + [2] * lost


def test_nothing_is_sent_twice_when_the_driver_is_killed(site: Site) -> None:
    """The next run takes in what its hosts have finished meanwhile, and awaits what they are still at."""
    site.write_job()
    with site.start() as process:
        site.at_once()
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    site.endpoint.let_go(1, 2)
    wait_until(lambda: site.answered() == 2)
    with site.start() as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "still with the hosts" in line)
        site.endpoint.let_go()
        err = end(process)
    assert "4 requests of an earlier run" in said
    assert process.returncode == 0, err
    assert sorted(site.asked().values()) == [1] * CHUNKS


def test_a_second_interrupt_ends_the_driver_and_loses_no_answer(site: Site) -> None:
    """It ends without an answer; the next run takes the answers in, and sends nothing again."""
    site.write_job(on_lost="hold")
    with site.start() as process:
        assert process.stderr is not None
        site.at_once()
        process.send_signal(signal.SIGINT)
        while "what is in flight is awaited" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        end(process)
    assert process.returncode == 130
    site.endpoint.let_go()
    code, err = site.run()
    assert code == 0, err
    assert sorted(site.asked().values()) == [1] * CHUNKS


def test_a_run_outlives_one_of_its_nodes(site: Site) -> None:
    """The other hosts do what was left, and only what was in flight on the killed node is sent again."""
    site.write_job()
    node = site.cluster.nodes[-1]
    with site.start() as process:
        hosts = site.at_once()
        lost = sum(site.in_flight_on(host) for host in hosts if host.session == node.session)
        node.kill()
        site.endpoint.let_go()
        err = end(process)
    assert process.returncode == 0, err
    assert sorted(site.asked().values()) == [1] * (CHUNKS - lost) + [2] * lost


def test_a_shared_spool_outlives_the_node_that_wrote_it(site: Site, tmp_path: Path) -> None:
    """Driver and node are killed, and the next run takes the answers from the folder that all hosts share."""
    site.write_job(spool=str(tmp_path / "spool"))
    with site.start() as process:
        site.at_once()
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    site.endpoint.let_go()
    wait_until(lambda: len(list((tmp_path / "spool").rglob("*.json"))) == CONCURRENCY)
    site.cluster.nodes[-1].kill()
    code, err = site.run()
    assert code == 0, err
    assert sorted(site.asked().values()) == [1] * CHUNKS


def test_what_was_in_flight_on_a_killed_host_is_held_where_the_job_says_so(site: Site) -> None:
    """Nothing is sent again; the report names the pages, and the run is not complete."""
    site.write_job(on_lost="hold")
    with site.start() as process:
        victim = site.at_once()[0]
        lost = site.in_flight_on(victim)
        victim.kill()
        site.endpoint.let_go()
        err = end(process)
    assert process.returncode == 3, err
    assert lost > 0
    assert sorted(site.asked().values()) == [1] * CHUNKS
    documents = json.loads((site.workspace.reports / "report.json").read_bytes())["documents"]
    chunks = [chunk for document in documents for chunk in document["chunks"]]
    assert Counter(chunk["status"] for chunk in chunks) == {"answered": CHUNKS - lost, "failed": lost}


def test_a_run_leaves_neither_a_process_nor_a_file_nor_the_key(site: Site) -> None:
    """Hosts end with the run; the key is on no command line, in no output and in no file of ours or of Ray."""
    site.write_job()
    kept_before = set(site.kept())  # by hosts on nodes that were killed for good
    with site.start() as process:
        site.at_once()
        commands = [other.command for other in everything_that_runs()]
        site.endpoint.let_go()
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    wait_until(lambda: not [p for p in site.cluster.processes() if p.is_host or p.is_sandbox])
    assert set(site.kept()) <= kept_before
    assert [text for text in [*commands, out, err] if KEY in text] == []
    files = [path for folder in (site.cluster.folder, site.workspace.folder) for path in folder.rglob("*")]
    assert [path for path in files if path.is_file() and KEY.encode() in path.read_bytes()] == []


class Billed(Endpoint):
    """Answers as a model that costs something."""

    async def _reply(self, request: Any, ordinal: int, request_id: str) -> tuple[Fault | None, Reply]:
        fault, reply = await super()._reply(request, ordinal, request_id)
        return fault, replace(reply, body=reply.body.replace(RULES_MODEL.encode(), b"model-x"))


def test_pace_and_budget_are_those_of_all_hosts_together(site: Site) -> None:
    """A 429 that one host gets stops every host; what one has spent is gone for all."""
    wait_s = 2.0
    limit = Fault(FaultKind.RATE_LIMIT, retry_after_s=wait_s)
    endpoint = Billed(FaultPlan((FaultRule(limit, requests=frozenset({1})),)))
    with running(endpoint) as base_url:
        replace(site, base_url=base_url).write_job(
            {"budget": {"max_usd": 2.0}, "prices": {"input": 0.0, "output": 1000.0}, "endpoint": {"max_tokens": 1000}},
            slots_per_host=1,
        )
        code, err = site.run()
    assert code == 7, err
    opens_s = endpoint.seen[0].at_s + wait_s
    early = [seen for seen in endpoint.seen if seen.at_s < opens_s]
    assert len(early) <= CONCURRENCY
    assert len(early) < len(endpoint.seen) < CHUNKS
