"""A run as OpenTelemetry traces: a span for the run and one for each request; the only importer of opentelemetry.

Attributes and their names: https://opentelemetry.io/docs/specs/semconv/gen-ai/anthropic/ (in development there; these
as of version 1.38), and ``docpipe.*`` for what has no name there. Document text, prompts and answers are in none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Thread
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from pipeline import __version__
from pipeline.domain import Chunk, ChunkState, Exchange, Failure, Outcome, RunInfo, Split, Task, Usage
from pipeline.errors import ExitCode
from pipeline.happenings import End, NullObserver
from pipeline.job import Endpoint
from pipeline.text import printable, shortened

_Attributes = dict[str, str | int | float]

_LAST_EXPORT_S = 5.0  # a collector that does not answer must not keep a night's run from ending
_MOST_CHARACTERS = 1000


class Traces(NullObserver):
    """Makes spans of what happens. They end in ``provider``, which ``close`` is to bring to its end.

    A text that is no valid UTF-8 cannot be exported, so all are made printable.
    """

    def __init__(self, job: str, endpoint: Endpoint, provider: TracerProvider, close: Callable[[], None]) -> None:
        self._tracer = provider.get_tracer("docpipe", __version__)
        self._close = close
        self._names: Mapping[str, str] = {}
        self._model = endpoint.model
        self._is_offline = endpoint.use == "offline"
        self._request: _Attributes = {
            "gen_ai.operation.name": "chat",
            # Whoever passes requests on, it is Anthropic's API that is spoken; rules are nobody's model.
            "gen_ai.provider.name": "docpipe" if self._is_offline else "anthropic",
            "gen_ai.request.model": printable(endpoint.model),
            **({} if self._is_offline else _server(endpoint.base_url)),
        }
        self._run: Span = self._tracer.start_span("docpipe run", attributes={"docpipe.job": printable(job)})

    def began(self, job: str, run: RunInfo) -> None:
        """The run has an id."""
        self._run.set_attribute("docpipe.run", run.id)

    def found(self, names: Mapping[str, str]) -> None:
        """Told the path of each content."""
        self._names = names

    def settled(
        self, task: Task, outcome: Outcome | Split, state: ChunkState, again_in_s: float | None, attempt: int
    ) -> None:
        """A span that has just ended, where a request was sent."""
        if not attempt or isinstance(outcome, Split):
            return
        ended_ns, wire = time.time_ns(), outcome.exchange
        span = self._tracer.start_span(
            f"chat {printable(self._model)}",
            context=set_span_in_context(self._run),
            kind=SpanKind.INTERNAL if self._is_offline else SpanKind.CLIENT,
            attributes={**self._request, **_of_task(self._names, task, attempt), **_of_exchange(wire)},
            start_time=ended_ns - int(wire.latency_s * 1e9),
        )
        if isinstance(outcome, Failure):
            is_http_error = wire.status is not None and wire.status != 200
            span.set_attribute("error.type", str(wire.status) if is_http_error else outcome.kind.value)
            span.set_attribute("docpipe.failure", outcome.kind.value)
            span.set_status(StatusCode.ERROR, shortened(printable(outcome.reason), _MOST_CHARACTERS))
        span.end(ended_ns)

    def ended(self, end: End) -> None:
        """The run's own span ends, and what is not exported yet is."""
        self._run.set_attributes({"docpipe.status": end.status.value, "docpipe.exit_code": end.exit_code})
        if end.result is not None:
            self._run.set_attribute("docpipe.documents", len(end.result.documents))
            self._run.set_attribute("docpipe.requests", end.result.spending.requests)
            if end.result.spending.cost_usd is not None:
                self._run.set_attribute("docpipe.cost_usd", end.result.spending.cost_usd)
        if end.exit_code:
            self._run.set_attribute("error.type", ExitCode(end.exit_code).name.lower())
            self._run.set_status(StatusCode.ERROR, shortened(printable(end.reason or ""), _MOST_CHARACTERS))
        self._run.end()
        self._close()


def exported(job: str, endpoint: Endpoint, say: Callable[[str], None]) -> Traces:
    """Traces that go where the environment says, by OTLP over HTTP, while the run goes on.

    What cannot be exported is lost, and ``say`` is told so in the end, once. A collector that does not answer holds
    the end up for 5 seconds at most.
    """
    trouble = _Trouble()
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(trouble)
    logger.propagate = False  # it writes tracebacks to stderr, which is not its own
    ours = {"service.name": "docpipe", "service.version": __version__}
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def close() -> None:
        last_export = Thread(target=provider.shutdown, daemon=True)
        last_export.start()
        last_export.join(_LAST_EXPORT_S)
        if last_export.is_alive():
            say(f"traces were lost: the collector did not answer within {_LAST_EXPORT_S:g} s")
        elif trouble.first:
            say(f"traces were lost: {shortened(trouble.first, _MOST_CHARACTERS)}")

    return Traces(job, endpoint, provider, close)


class _Trouble(logging.Handler):
    """Keeps the first thing that the exporter complains of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


def _server(base_url: str) -> _Attributes:
    url = urlsplit(base_url)
    return {"server.address": url.hostname or "", "server.port": url.port or (443 if url.scheme == "https" else 80)}


def _of_task(names: Mapping[str, str], task: Task, attempt: int) -> _Attributes:
    attributes: _Attributes = {
        "docpipe.document": printable(names.get(task.content, task.content)),
        "docpipe.chunk": task.id,
        "docpipe.attempt": attempt,
    }
    if isinstance(task, Chunk):
        attributes["docpipe.pages"] = str(task.pages)
    return attributes


def _of_exchange(wire: Exchange) -> _Attributes:
    known = {
        "http.response.status_code": wire.status,
        "gen_ai.response.id": wire.message_id,
        "gen_ai.response.model": wire.model,
        "docpipe.request_id": wire.request_id,
    }
    found: _Attributes = _of_usage(wire.usage) if wire.usage else {}
    for name, value in known.items():
        if value is not None:
            found[name] = printable(value) if isinstance(value, str) else value
    return found


def _of_usage(usage: Usage) -> _Attributes:
    """The conventions count what came from a cache among the input; the API counts it apart."""
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
    }
