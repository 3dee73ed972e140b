"""A run as spans: what they say, where they go, and that nobody waits for them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="docpipe[otel] is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from pipeline import job, traces, watching
from pipeline.domain import Answer, ChunkState, Exchange, Failure, FailureClass, Split, Usage
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.happenings import End
from pipeline.serve import Endpoint, running
from tests.conftest import KEY, Workspace, clause, write_pdf
from tests.report_values import RUN, a_night
from tests.test_progress import CHUNK, HOSTILE, failure

OVERLOADED_ONCE = FaultPlan((FaultRule(Fault(FaultKind.OVERLOADED), requests=frozenset({1})),))
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Kept:
    """Traces of a job's endpoint whose spans stay in memory."""

    def __init__(self, workspace: Workspace) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.traces = traces.Traces("job", job.load(workspace.job_file).endpoint, provider, provider.shutdown)

    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in that order."""
        return list(self._memory.get_finished_spans())


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """The address of one that takes traces on a loopback port, and what it took."""
    bodies: list[bytes] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with HTTPServer(("127.0.0.1", 0), Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies
        finally:
            server.shutdown()
            thread.join()


def test_each_request_is_a_span_of_its_run(workspace: Workspace) -> None:
    """Over a socket: one that failed, one that was answered, under the names of the conventions."""
    write_pdf(workspace.docs / "a.pdf", [clause(1), clause(2)])
    with running(Endpoint(OVERLOADED_ONCE)) as base_url:
        workspace.write_job(base_url)
        kept = Kept(workspace)
        with watching.watched(kept.traces) as watch:
            watch.result = result = workspace.run(observer=watch)
        port = int(base_url.rpartition(":")[2])

    failed, answered, run = kept.spans()
    first, second, whole = (dict(span.attributes or {}) for span in (failed, answered, run))
    asked = result.run.model
    model = job.load(workspace.job_file).endpoint.model
    assert [(span.name, span.kind) for span in (failed, answered, run)] == [
        (f"chat {model}", SpanKind.CLIENT), (f"chat {model}", SpanKind.CLIENT), ("docpipe run", SpanKind.INTERNAL),
    ]  # fmt: skip
    assert run.context is not None
    assert all(span.parent and span.parent.span_id == run.context.span_id for span in (failed, answered))
    assert (first["error.type"], first["http.response.status_code"], first["docpipe.attempt"]) == ("529", 529, 1)
    assert (failed.status.is_ok, answered.status.is_ok, run.status.is_ok) == (False, True, True)
    assert (second["gen_ai.operation.name"], second["gen_ai.provider.name"]) == ("chat", "anthropic")
    assert (second["gen_ai.request.model"], second["gen_ai.response.model"]) == (model, asked)
    assert (second["server.address"], second["server.port"]) == ("127.0.0.1", port)
    assert str(second["gen_ai.response.id"]).startswith("msg_")
    assert str(second["docpipe.request_id"]).startswith("req_")
    assert second["gen_ai.usage.output_tokens"] == result.spending.usage.output_tokens > 0
    assert (second["docpipe.document"], second["docpipe.pages"], second["docpipe.attempt"]) == ("a.pdf", "1-2", 2)
    assert (whole["docpipe.run"], whole["docpipe.status"], whole["docpipe.requests"]) == (result.run.id, "complete", 2)
    assert answered.start_time is not None
    assert answered.end_time is not None
    assert run.start_time is not None
    assert run.start_time < answered.start_time < answered.end_time


def test_the_input_counts_what_came_from_a_cache(workspace: Workspace) -> None:
    """The conventions want the sum where the API counts three things apart."""
    workspace.write_job()
    kept = Kept(workspace)
    kept.traces.settled(CHUNK, Answer({}, Exchange(200, usage=Usage(1, 2, 30, 400))), ChunkState.ANSWERED, None, 1)

    attributes = dict(kept.spans()[0].attributes or {})
    assert attributes["gen_ai.usage.input_tokens"] == 431
    assert (attributes["gen_ai.usage.cache_read.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (30, 2)


def test_rules_never_pass_for_a_model(workspace: Workspace) -> None:
    """Their provider is docpipe, their model is theirs, and they are reached through no server."""
    workspace.write_job()
    kept = Kept(workspace)
    kept.traces.settled(CHUNK, Answer({}, Exchange(200)), ChunkState.ANSWERED, None, 1)

    (span,) = kept.spans()
    attributes = dict(span.attributes or {})
    assert (attributes["gen_ai.provider.name"], span.kind) == ("docpipe", SpanKind.INTERNAL)
    assert str(attributes["gen_ai.request.model"]).startswith("offline-rules")
    assert "server.address" not in attributes


def test_what_was_never_sent_is_no_span(workspace: Workspace) -> None:
    """Of a chunk that was halved or given up before its request."""
    workspace.write_job()
    kept = Kept(workspace)
    kept.traces.settled(CHUNK, Split("too large"), ChunkState.SPLIT, None, 0)
    kept.traces.settled(CHUNK, failure("cannot be cut"), ChunkState.FAILED, None, 0)
    kept.traces.ended(End.by(KeyboardInterrupt()))

    (run,) = kept.spans()
    assert (run.name, (run.attributes or {})["error.type"]) == ("docpipe run", "interrupted")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_keeps_a_span_from_its_collector(workspace: Workspace, name: str) -> None:
    """Whatever a file name or a reason holds, it is text that UTF-8 can carry, on one line."""
    workspace.write_job()
    kept = Kept(workspace)
    kept.traces.found({"content": name})
    kept.traces.settled(CHUNK, failure(name), ChunkState.FAILED, None, 1)

    (span,) = kept.spans()
    texts = [str(value) for value in (span.attributes or {}).values()] + [span.status.description or ""]
    assert all(text.isprintable() and text.encode() is not None for text in texts)


def test_a_collector_gets_the_whole_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """By OTLP, from the program itself, when it has ended; no key and no text of the document are in it."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    with collector() as (address, bodies), running(Endpoint()) as base_url:
        monkeypatch.setenv(ENDPOINT, address)
        workspace.write_job(base_url)
        code, _, err = workspace.docpipe("run", str(workspace.job_file))

    (resource,) = (spans for body in bodies for spans in ExportTraceServiceRequest.FromString(body).resource_spans)
    assert (code, err) == (0, "")
    assert sorted(span.name.split()[0] for scope in resource.scope_spans for span in scope.spans) == ["chat", "docpipe"]
    assert ("service.name", "docpipe") in {(a.key, a.value.string_value) for a in resource.resource.attributes}
    assert KEY.encode() not in b"".join(bodies)
    assert b"sole discretion" not in b"".join(bodies)


def test_a_collector_that_is_not_there_is_one_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The end waits for so long and no longer, and the exporter's own words stay off stderr."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setattr(traces, "_LAST_EXPORT_S", 0.1)
    workspace.write_job()
    said: list[str] = []
    (found,) = watching.of(job.load(workspace.job_file), {ENDPOINT: "http://127.0.0.1:9"}, said.append)
    found.ended(End.by(KeyboardInterrupt()))

    assert [line.partition(":")[0] for line in said] == ["traces were lost"]
    assert capfd.readouterr().err == ""


def test_a_setting_that_the_exporter_does_not_take_is_one_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on without traces."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    workspace.write_job()
    said: list[str] = []

    assert not watching.of(job.load(workspace.job_file), {ENDPOINT: "http://127.0.0.1:9"}, said.append)
    assert [line.partition(":")[0] for line in said] == ["no traces"]


def test_without_the_libraries_one_line_says_so(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an address was set and the extra is not installed."""
    monkeypatch.setitem(sys.modules, "pipeline.traces", None)
    monkeypatch.delattr("pipeline.traces")
    workspace.write_job()
    said: list[str] = []

    assert not watching.of(job.load(workspace.job_file), {ENDPOINT: "http://127.0.0.1:9"}, said.append)
    assert said == ["no traces: OpenTelemetry is not installed; it comes with docpipe[otel]"]


def test_without_an_address_nothing_is_loaded(workspace: Workspace) -> None:
    """An empty one is none."""
    workspace.write_job()
    script = (
        "import sys; from pathlib import Path; from pipeline import job, watching\n"
        f"found = watching.of(job.load(Path({str(workspace.job_file)!r})), {{{ENDPOINT!r}: ''}}, print)\n"
        "print(found, [name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert printed == "[] []\n"


def test_every_attribute_is_documented(workspace: Workspace) -> None:
    """The table holds just those that spans have."""
    workspace.write_job("http://127.0.0.1:9")
    kept = Kept(workspace)
    kept.traces.began("job", RUN)
    wire = Exchange(200, "req_1", 1.0, "m", Usage(1, 2, 3, 4), message_id="msg_1")
    kept.traces.settled(CHUNK, Failure(FailureClass.REFUSAL, "no", wire), ChunkState.FAILED, None, 1)
    kept.traces.ended(End.with_result(replace(a_night(), run=replace(RUN, exit_code=3))))
    page = (Path(__file__).resolve().parents[1] / "docs" / "observability.md").read_text("utf-8")
    table = page.partition("\n| attribute | of |")[2]
    listed = {name for line in table.splitlines()[2:] for name in re.findall(r"`([\w.]+)`", line.split("|")[1])}

    assert listed == {name for span in kept.spans() for name in span.attributes or ()}
