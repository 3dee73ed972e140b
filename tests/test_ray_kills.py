"""Whatever part of a cluster is killed: each request is made at most once, and what was paid for is taken in."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.serve import running
from tests.conftest import DEADLINE_S, Workspace, clause, wait_until, write_pdf
from tests.gated_endpoint import Gated
from tests.ray_cluster import Process, RayCluster, connections

pytestmark = pytest.mark.ray

DOCUMENTS = 4
PAGES = 3
CHUNKS = DOCUMENTS * PAGES
CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class Site:
    """A job that runs on a cluster."""

    workspace: Workspace
    cluster: RayCluster
    endpoint: Gated
    base_url: str

    def write_job(self, **engine: object) -> None:
        for number in range(DOCUMENTS):
            write_pdf(self.workspace.docs / f"{number}.pdf", [clause(number * 100 + page) for page in range(PAGES)])
        self.workspace.write_job(
            self.base_url,
            engine={"use": "ray", "address": self.cluster.address, "slots_per_host": CONCURRENCY, **engine},
            split={"max_pages": 1},
            workers={"concurrency": CONCURRENCY},
            prompt={"synthesis": False},
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
    """Its stderr, when it has ended."""
    return process.communicate(timeout=DEADLINE_S)[1]


def test_only_what_was_in_flight_on_a_killed_host_is_sent_again(site: Site) -> None:
    """The host is started anew by the cluster, and what it was at goes out once more; the run completes."""
    site.write_job()
    with site.start() as process:
        victim = site.at_once()[0]
        lost = site.in_flight_on(victim)
        victim.kill()
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
        end(process)
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
    site.write_job()
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
        end(process)
    site.endpoint.let_go()
    wait_until(lambda: len(list((tmp_path / "spool").rglob("*.json"))) == CONCURRENCY)
    site.cluster.nodes[-1].kill()
    code, err = site.run()
    assert code == 0, err
    assert sorted(site.asked().values()) == [1] * CHUNKS
