"""What every engine does, whichever one a job asks for: real files, worker processes, connections and cluster."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pipeline import engines, job
from pipeline.domain import Answer, Chunk, Failure, PageRange, Payload, Synthesis
from pipeline.engine import Engine, Join, Prepare, Read, Secrets, Send, Work
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.pdf import Original, PdfError, Source, SourceChangedError
from pipeline.sandbox import Sandbox, SandboxError
from pipeline.serve import Endpoint, running
from tests.conftest import KEY, Workspace, clause, wait_until, write_pdf
from tests.host_calls import ImpatientRayHost
from tests.ray_cluster import RayCluster

T = TypeVar("T")
SLOTS = 2
REFUSED = "schedule K013"
SLOW = "schedule K014"
SLOW_S = 0.3
FAULTS = FaultPlan(
    (
        FaultRule(Fault(FaultKind.BAD_REQUEST), text=REFUSED),
        FaultRule(Fault(FaultKind.SLOW, seconds=SLOW_S), text=SLOW),
    )
)


class Bench:
    """An engine, opened when it is first asked for, with an endpoint and a folder of documents."""

    def __init__(self, workspace: Workspace, endpoint: Endpoint, base_url: str, cluster: RayCluster | None) -> None:
        self.workspace = workspace
        self.endpoint = endpoint
        self.cluster = cluster
        self.port = int(base_url.rpartition(":")[2])
        settings: dict[str, Mapping[str, object]] = {"workers": {"concurrency": SLOTS}}
        if cluster:
            settings["engine"] = {"use": "ray", "address": cluster.address, "slots_per_host": SLOTS}
        self._job = job.load(workspace.write_job(base_url, **settings))
        self._sandbox = Sandbox(1)
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = engines.engine_of(self._job, Secrets(KEY), self._sandbox, uuid.uuid4().hex)
            self._engine.open()
        return self._engine

    @property
    def host(self) -> str:
        return self.engine.hosts()[0].name

    def close(self, recorded: Mapping[str, Sequence[str]] | None = None) -> None:
        if self._engine is not None:
            self._engine.close(recorded or {})
            self._engine = None

    def do(self, *works: Work) -> list[Any]:
        """What comes of some works that one host is given at the same time."""
        return self.run(lambda: asyncio.gather(*(self.engine.call(self.host, work) for work in works)))

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await something in a loop of its own, as each phase of a run does."""

        async def awaited() -> T:
            try:
                return await work()
            finally:
                await self.engine.rest()

        return asyncio.run(awaited())

    def document(self, *pages: str) -> Original:
        path = write_pdf(self.workspace.docs / f"{uuid.uuid4().hex}.pdf", pages)
        stat = path.stat()
        return Original(Source(str(path), stat.st_size, stat.st_mtime_ns), len(pages), must_be_cut=False)

    def posts(self, work: Callable[[], T]) -> tuple[int, T]:
        """How many requests reached the endpoint while something was done, and what came of it."""
        before = len(self.endpoint.seen)
        done = work()
        return len(self.endpoint.seen) - before, done

    def end(self) -> None:
        self.close()
        self._sandbox.stop()


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The engine of this machine, and hosts of a cluster."""
    cluster = request.getfixturevalue("cluster") if request.param == "ray" else None
    yield from _bench(tmp_path_factory, cluster)


@pytest.fixture(scope="module")
def on_ray(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Hosts of a cluster alone."""
    yield from _bench(tmp_path_factory, cluster)


def _bench(factory: pytest.TempPathFactory, cluster: RayCluster | None) -> Iterator[Bench]:
    endpoint = Endpoint(FAULTS)
    with running(endpoint) as base_url:
        bench = Bench(Workspace(factory.mktemp("engine")), endpoint, base_url, cluster)
        yield bench
        bench.end()


def chunk(page: int = 1) -> Chunk:
    return Chunk(uuid.uuid4().hex, "content", PageRange(page, page))


def send(chunk: Chunk, original: Original, payload: Payload, recorded: tuple[str, ...] = ()) -> Send:
    return Send(f"1-{chunk.id}", chunk, original, payload, by_schema=True, max_tokens=1000, recorded=recorded)


def whole(original: Original) -> Send:
    """An attempt for a document of one page, which goes out as it lies there."""
    return send(chunk(), original, Payload(Path(original.source.path)))


def test_an_open_engine_has_hosts_that_work(bench: Bench) -> None:
    """At least one, each with the slots and worker processes that it says."""
    hosts = bench.engine.hosts()
    assert len({host.name for host in hosts}) == len(hosts) == (len(bench.cluster.nodes) if bench.cluster else 1)
    assert {host.slots for host in hosts} == {SLOTS}
    assert min(host.processes for host in hosts) >= 1


def test_what_is_read_comes_back(bench: Bench) -> None:
    """The function is called in a worker process of the host with the source and what else it was given."""
    source = Source("a.pdf", 1, 1)
    assert bench.do(Read(source, "tests.host_calls:told", ("x", "y"))) == [("a.pdf", "x", "y")]


@pytest.mark.parametrize(
    ("function", "kind", "attributes"),
    [
        ("locked", PdfError, {"reason": "a password stands in the way", "encrypted": True}),
        ("changed", SourceChangedError, {"args": ("it is another",)}),
        ("missing", FileNotFoundError, {"errno": 2, "strerror": "No such file or directory", "filename": "a.pdf"}),
        ("crash", SandboxError, {"args": ("reading it crashed the reader (exit code -11)",)}),
    ],
)
def test_what_reading_raises_arrives_as_it_was(
    bench: Bench, function: str, kind: type[Exception], attributes: Mapping[str, object]
) -> None:
    """The type itself, with its attributes: what becomes of the document depends on them."""
    with pytest.raises(kind) as raised:
        bench.do(Read(Source("a.pdf", 1, 1), f"tests.host_calls:{function}", ()))
    assert type(raised.value) is kind
    assert {name: getattr(raised.value, name) for name in attributes} == attributes


def test_a_cut_chunk_is_sent_once_and_taken_away(bench: Bench) -> None:
    """Prepare makes the file on the host, Send makes one request of it and removes it."""
    original, page = bench.document(clause(1), clause(2)), chunk(2)

    async def cut_and_sent() -> tuple[int, Payload, Any]:
        payload = await bench.engine.call(bench.host, Prepare(page, original, reduced=False))
        size_bytes = payload.path.stat().st_size
        outcome = await bench.engine.call(bench.host, send(page, original, payload))
        assert not payload.path.exists()
        return size_bytes, payload, outcome

    posts, (size_bytes, payload, outcome) = bench.posts(lambda: bench.run(cut_and_sent))
    assert posts == 1
    assert size_bytes == payload.spooled_bytes > 0
    assert isinstance(outcome, Answer)
    assert "schedule K002" in str(outcome.result)


def test_a_summary_is_asked_for_with_text_alone(bench: Bench) -> None:
    """A synthesis needs no file."""
    synthesis = Synthesis(uuid.uuid4().hex, "content", ((PageRange(1, 1), "first"), (PageRange(2, 2), "second")))
    work = Send(synthesis.id, synthesis, None, Payload(None), by_schema=True, max_tokens=1000)
    posts, (outcome,) = bench.posts(lambda: bench.do(work))
    assert (posts, type(outcome)) == (1, Answer)


def test_a_failure_is_a_value(bench: Bench) -> None:
    """It comes back as an outcome, with what went over the wire."""
    posts, (outcome,) = bench.posts(lambda: bench.do(whole(bench.document(clause(13)))))
    assert posts == 1
    assert isinstance(outcome, Failure)
    assert outcome.exchange.status == 400


def test_no_more_than_its_slots_are_in_flight_on_a_host(bench: Bench) -> None:
    """However many attempts it is given at once."""
    works = [whole(bench.document(clause(14))) for _ in range(3 * SLOTS)]
    before = len(bench.endpoint.seen)
    bench.do(*works)
    assert max(seen.in_flight for seen in bench.endpoint.seen[before:]) == SLOTS


@pytest.mark.ray
def test_hosts_work_at_the_same_time(on_ray: Bench) -> None:
    """What one is busy with does not keep the others waiting."""
    hosts = on_ray.engine.hosts()
    for page in (1, 14):  # first each is told of the job
        before, works = len(on_ray.endpoint.seen), {host.name: whole(on_ray.document(clause(page))) for host in hosts}
        on_ray.run(lambda: asyncio.gather(*(on_ray.engine.call(host, work) for host, work in works.items())))  # noqa: B023
    assert max(seen.in_flight for seen in on_ray.endpoint.seen[before:]) == len(hosts) > 1


@pytest.mark.ray
def test_an_attempt_that_is_asked_for_twice_is_made_once(on_ray: Bench) -> None:
    """While it is made and when its outcome is kept: both get the one outcome."""
    work = whole(on_ray.document(clause(14)))
    posts, outcomes = on_ray.posts(lambda: [*on_ray.do(work, work), *on_ray.do(work)])
    assert posts == 1
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert isinstance(outcomes[0], Answer)


@pytest.mark.ray
def test_an_attempt_that_nobody_awaits_goes_on_and_can_be_joined(on_ray: Bench) -> None:
    """A call that is given up ends nothing on the host; the attempt is named there, and a join awaits it."""
    work = whole(on_ray.document(clause(14)))

    async def left_and_joined() -> tuple[Mapping[str, str], Any, Any]:
        before = len(on_ray.endpoint.seen)
        call = asyncio.ensure_future(on_ray.engine.call(on_ray.host, work))
        while len(on_ray.endpoint.seen) == before:
            await asyncio.sleep(0.01)
        call.cancel()
        held = await on_ray.engine.held()
        running = await on_ray.engine.call(on_ray.host, Join(work.attempt))
        return held, running, await on_ray.engine.call(on_ray.host, Join(work.attempt))

    posts, (held, running, kept) = on_ray.posts(lambda: on_ray.run(left_and_joined))
    assert held[work.attempt] == on_ray.host
    assert isinstance(running, Answer)
    assert running == kept
    assert posts == 1


def test_an_attempt_that_a_host_never_saw_joins_to_nothing(bench: Bench) -> None:
    """There is no outcome, and nothing is sent."""
    assert bench.posts(lambda: bench.do(Join("1-never"))) == (0, [None])


@pytest.mark.ray
def test_an_outcome_is_kept_until_it_is_on_record(on_ray: Bench) -> None:
    """The next attempt that a host makes tells it which ones it need not keep."""
    first, second = whole(on_ray.document(clause(1))), on_ray.document(clause(2))
    on_ray.do(first)
    assert first.attempt in on_ray.run(on_ray.engine.held)
    next_one = chunk()
    on_ray.do(send(next_one, second, Payload(Path(second.source.path)), recorded=(first.attempt,)))
    held = on_ray.run(on_ray.engine.held)
    assert first.attempt not in held
    assert held[f"1-{next_one.id}"] == on_ray.host


def test_a_closed_engine_leaves_no_process_and_no_file_of_chunks(bench: Bench) -> None:
    """Neither on this machine nor on a host, though a chunk was cut and never sent; nor an outcome on record."""
    cluster, original, work = bench.cluster, bench.document(clause(1), clause(2)), whole(bench.document(clause(1)))
    folder = cluster.folder if cluster else bench.workspace.folder
    before = {*folder.rglob("*spool*")}  # of nodes that another test has killed
    bench.do(Prepare(chunk(2), original, reduced=False), work)
    bench.close({bench.host: [work.attempt]})
    assert {*folder.rglob("*spool*"), *folder.rglob(f"{work.attempt}*")} <= before
    if cluster:
        wait_until(lambda: not [p for p in cluster.processes() if p.is_host or p.is_sandbox])


@pytest.mark.ray
def test_a_host_that_its_driver_left_ends_for_good(on_ray: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it was killed before, and the cluster has started it anew with no driver to call it."""
    from pipeline.engines import on_ray as module

    cluster = on_ray.cluster
    assert cluster
    on_ray.close()
    monkeypatch.setattr(module, "RayHost", ImpatientRayHost)
    assert on_ray.engine.hosts()
    cluster.hosts()[0].kill()
    wait_until(lambda: not cluster.hosts())
    on_ray.close()
