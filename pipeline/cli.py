"""The command line: parse, call one function, print, exit code.

Modules that load slowly are imported by the command that needs them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import __version__
from pipeline.errors import ExitCode, PipelineError, SettingsError
from pipeline.text import moment, printable, shortened

if TYPE_CHECKING:
    from pipeline.domain import RunResult
    from pipeline.job import Job
    from pipeline.run import Status
    from pipeline.standing import PlannedDocument
    from pipeline.storage import Url

_ENDPOINTS = click.Choice(["offline", "yourouter", "anthropic", "custom"])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="docpipe", message="docpipe %(version)s")
def main() -> None:
    """Read a folder of PDFs and images with a language model and report the risks, page by page.

    JOB is a name in jobs/ (contracts means jobs/contracts.toml) or a path to a TOML file.

    \b
    Exit codes: 0 complete · 1 a bug · 2 wrong usage · 3 finished, but some documents are
    partial or failed · 4 job file or settings wrong, a missing key too · 5 the API refuses
    the account · 6 another run holds the lock · 7 budget reached · 8 ledger damaged or newer
    · 9 the API was down to the end · 130 interrupted, resumable
    """  # noqa: D301 - click takes the backspace itself for "do not wrap"


def _job_options(command: Any) -> Any:
    command = click.option("--endpoint", type=_ENDPOINTS, help="Send to this endpoint instead of the job file's.")(
        command
    )
    return click.argument("job")(command)


def _sending_options(command: Any) -> Any:
    command = click.option("--verbose", is_flag=True, help="Events and the full summary without a terminal, too.")(
        command
    )
    command = click.option("--json", "as_json", is_flag=True, help="Print the run's totals as JSON.")(command)
    command = click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How events are written to stderr; json: one object a line.",
    )(command)
    command = click.option("--limit", type=click.IntRange(min=1), help="Send for at most so many documents.")(command)
    return _job_options(command)


@main.command()
@_sending_options
def run(job: str, endpoint: str | None, limit: int | None, log_format: str, as_json: bool, verbose: bool) -> int:
    """Send what is new, merge, and write the reports."""
    return _send(job, endpoint, limit, _Output(as_json, verbose, log_format == "json"), failed_only=False)


@main.command()
@_sending_options
def retry(job: str, endpoint: str | None, limit: int | None, log_format: str, as_json: bool, verbose: bool) -> int:
    """The same for failed chunks alone, also those that failed for good."""
    return _send(job, endpoint, limit, _Output(as_json, verbose, log_format == "json"), failed_only=True)


@main.command()
@_job_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(job: str, endpoint: str | None, as_json: bool) -> int:
    """What a run would do, and why; sends nothing."""
    from pipeline import pdf, progress, run

    loaded = _loaded(job, endpoint)
    passwords = pdf.passwords_of(loaded.source.passwords_env, os.environ)
    _show_plan(loaded, run.plan_job(loaded, progress.Lines(), passwords), as_json)
    return ExitCode.COMPLETE


@main.command()
@_job_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--verify", is_flag=True, help="Check the ledger from end to end, and hash every file again.")
def status(job: str, endpoint: str | None, as_json: bool, verify: bool) -> int:
    """What the ledger knows; works during a run."""
    from pipeline import run

    loaded = _loaded(job, endpoint)
    if verify:
        return _verify(loaded, as_json)
    books = run.status_job(loaded)
    if as_json:
        from pipeline.reports import json_report

        _print_json(
            {"job": loaded.name, **json_report.status(books.result, books.spending, books.cut_off, books.batches)}
        )
    else:
        _show_status(loaded, job, endpoint, books)
    return ExitCode.COMPLETE


def _verify(job: Job, as_json: bool) -> int:
    from dataclasses import asdict

    from pipeline.verify import verify_job

    verified = verify_job(job)
    if as_json:
        _print_json({"job": job.name, **asdict(verified)})
    else:
        for line in verified.wrong:
            click.echo(f"WRONG  {line}")
        for line in verified.notes:
            click.echo(f"note   {line}")
        if not verified.wrong:
            click.echo(f"ok     the ledger is in order; {verified.files} files were hashed")
    return ExitCode.LEDGER if verified.wrong else ExitCode.COMPLETE


@main.command()
@_job_options
def report(job: str, endpoint: str | None) -> int:
    """Write the reports again from the ledger; sends nothing."""
    from pipeline import pdf, progress, run
    from pipeline.sandbox import Sandbox

    loaded = _loaded(job, endpoint)
    name = loaded.source.passwords_env  # without them the pages of locked files have no pictures, and say so
    passwords = pdf.passwords_of(name if name and os.environ.get(name) else None, os.environ)
    with progress.shown(by_line=True) as observer, Sandbox() as sandbox:
        result = run.report_job(loaded, sandbox, observer, passwords)
    if result is None:
        click.echo(f"{loaded.name} never ran; `{_command('run', job)}` begins")
    else:
        _show_summary(loaded, job, endpoint, result)
    return ExitCode.COMPLETE


@main.command()
@_job_options
def check(job: str, endpoint: str | None) -> int:
    """Say what would go wrong tonight; sends a "Hello" to the model."""
    from pipeline import check as checks

    worst = ExitCode.COMPLETE
    for finding in checks.check_job(_loaded(job, endpoint), os.environ):
        mark = "WRONG" if finding.exit_code else "ok"
        click.echo(f"{mark:5}  {finding.what}: {printable(finding.text)}")
        worst = worst or finding.exit_code
    return worst


@main.command()
@_job_options
def salvage(job: str, endpoint: str | None) -> int:
    """Put what can still be read of a damaged ledger into a new one; the damaged one is kept."""
    from datetime import UTC, datetime

    from pipeline import ledger_salvage
    from pipeline.ledger_file import Lock

    path = _loaded(job, endpoint).ledger.path
    with Lock(path):
        saved = ledger_salvage.salvage(path, datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"))
    if saved is None:
        click.echo(f"{path} is in order; nothing was done")
        return ExitCode.COMPLETE
    click.echo(f"saved   {', '.join(f'{count} {table}' for table, count in saved.rows.items())}")
    click.echo(f"damage  {', '.join(saved.damaged) or 'in no table'}")
    click.echo(f"lost    {saved.lost} answers, which `{_command('run', job)}` asks for again")
    click.echo(f"kept    {saved.kept_as}")
    return ExitCode.COMPLETE


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 takes a free one.")
@click.option("--latency", "latency_s", type=click.FloatRange(min=0), default=0.0, help="Seconds before each answer.")
@click.option("--faults", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A TOML script of faults.")
@click.option(
    "--rate", "rates", multiple=True, metavar="KIND=SHARE", help="A share of requests that fail, e.g. overloaded=0.1."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which requests the rates hit.")
@click.option(
    "--requests-per-minute", "limit", type=click.IntRange(min=0), default=0, help="More get a 429; 0: any number."
)
@click.option("--limit-headers/--no-limit-headers", default=True, help="Whether responses tell that limit.")
@click.option("--read/--no-read", "read_pdf", default=True, help="Without reading, every document has an empty result.")
@click.option("--structured-output/--no-structured-output", default=True, help="Whether output_config is taken.")
def serve(
    port: int,
    latency_s: float,
    faults: Path | None,
    rates: Sequence[str],
    seed: int,
    limit: int,
    limit_headers: bool,
    read_pdf: bool,
    structured_output: bool,
) -> int:
    """The offline Messages endpoint on a loopback port, with chosen faults."""
    from pipeline.faults import FaultPlan, load_script, parse_rates
    from pipeline.serve import Endpoint, serve_forever

    try:
        plan = FaultPlan(load_script(faults) if faults else (), parse_rates(rates), seed)
        endpoint = Endpoint(plan, latency_s, read_pdf, structured_output, limit, limit_headers)
        serve_forever(endpoint, click.echo, port=port)
    except (ValueError, OSError) as error:
        raise SettingsError(str(error)) from None
    return ExitCode.COMPLETE


def end() -> int:
    """Run the command line; the one place where errors become exit codes."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name in Chinese on a terminal of Latin letters
            stream.reconfigure(errors="backslashreplace")
    try:
        result = main.main(prog_name="docpipe", standalone_mode=False)
    except click.ClickException as error:  # wrong usage
        error.show()
        return ExitCode.USAGE
    except PipelineError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {printable(line)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was recorded stays recorded, the next run goes on", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has gone away, as in `docpipe status x | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BUG
    return result if isinstance(result, int) else ExitCode.COMPLETE


@dataclass(frozen=True, slots=True)
class _Output:
    """What a run is to print. ``json_events``: stderr is for programs."""

    as_json: bool
    verbose: bool
    json_events: bool

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks on: else a run in order is one line."""
        return self.verbose or any(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def _send(name: str, endpoint: str | None, limit: int | None, output: _Output, *, failed_only: bool) -> int:
    from pipeline import fork_server

    fork_server.start()  # takes as long as the imports here
    from pipeline.sandbox import Sandbox

    with Sandbox() as sandbox:
        sandbox.start()
        from pipeline import endpoints, pdf, progress, run, watching
        from pipeline.happenings import End

        try:
            with progress.shown(output.is_watched, output.json_events) as shown, watching.watched(shown) as watch:
                job = _loaded(name, endpoint)
                say = shown.said if output.json_events else progress.Lines().said  # cron is to mail it
                watch.join(watching.of(job, os.environ, say))
                key = endpoints.key_of(job.endpoint, os.environ)
                passwords = pdf.passwords_of(job.source.passwords_env, os.environ)
                options = run.Options(failed_only, limit)
                result = watch.result = run.run_job(job, key, options, sandbox, watch, passwords)
                untold = _tell(job, result)
                if output.json_events:
                    for line in untold:
                        watch.said(line)
        except (PipelineError, KeyboardInterrupt) as error:
            if output.json_events:
                return End.by(error).exit_code  # the last event has said it
            raise
    with suppress(OSError):  # a reader that has gone away changes nothing about how the run ended
        _show_end(job, name, endpoint, result, output)
        if not output.json_events:
            for line in untold:
                click.echo(line, err=True)
    return result.run.exit_code


def _tell(job: Job, result: RunResult) -> list[str]:
    """A line for each notification that could not be sent."""
    if not job.notify.is_set:
        return []
    from pipeline import notify

    return notify.tell(job, result, _report_file(job), os.environ)


def _show_end(job: Job, name: str, endpoint: str | None, result: RunResult, output: _Output) -> None:
    from pipeline.reports import json_report, summary

    if output.as_json:
        _print_json(json_report.totals(result))
    elif not output.is_watched:
        click.echo(summary.render_line(result, _short_path(_report_file(job))))
    to_stderr = output.as_json or not output.is_watched
    if (output.is_watched or result.run.exit_code) and not (to_stderr and output.json_events):
        _show_summary(job, name, endpoint, result, to_stderr)


def _loaded(name: str, endpoint: str | None) -> Job:
    from pipeline import job

    return job.load(job.find(name), endpoint)


def _command(command: str, name: str, endpoint: str | None = None) -> str:
    """The command as this user types it: through make, if it runs under make."""
    name = shlex.quote(name)
    if "MAKELEVEL" in os.environ:
        return f"make {command}-job JOB={name}" + (f" ENDPOINT={endpoint}" if endpoint else "")
    return f"docpipe {command} {name}" + (f" --endpoint {endpoint}" if endpoint else "")


def _show_summary(job: Job, name: str, endpoint: str | None, result: RunResult, to_stderr: bool = False) -> None:
    from pipeline.reports import presentation, summary

    again = None
    if presentation.to_try_again(result):
        again = _command(presentation.taken_up_by(result), name, endpoint)
    mended = _command("run", name, endpoint) if presentation.to_mend(result) else None
    stream = sys.stderr if to_stderr else sys.stdout
    text = summary.render(result, _short_path(_report_file(job)), again, mended, stream.isatty())
    click.echo(text, err=to_stderr)


def _report_file(job: Job) -> Path | Url:
    """The report to open."""
    return job.report.folder / ("index.html" if "html" in job.report.formats else "report.json")


def _short_path(place: Path | Url) -> str:
    """Relative to here where that is shorter to read."""
    here = Path.cwd()
    if isinstance(place, Path) and place.is_relative_to(here):
        return str(place.relative_to(here))
    return str(place)


def _show_status(job: Job, name: str, endpoint: str | None, books: Status) -> None:
    from pipeline.reports import presentation

    if books.result is None:
        click.echo(f"{job.name} never ran; `{_command('run', name)}` begins")
        return
    _show_summary(job, name, endpoint, books.result)
    click.echo(f"all runs    {books.spending.requests} requests, cost {presentation.spent(books.spending)}")
    for batch in books.batches:
        click.echo(
            f"batch       {batch.name or 'not known to have arrived'}: {batch.requests} requests since "
            f"{moment(batch.begun_at)}, {batch.status or 'sent'}"
        )
    if books.cut_off:
        click.echo(f"cut off     {books.cut_off} requests without an end: in flight now, or when a run was killed")


def _show_plan(job: Job, documents: Sequence[PlannedDocument], as_json: bool) -> None:
    from collections import Counter
    from dataclasses import asdict

    if as_json:
        _print_json([asdict(document) for document in documents])
        return
    costs = [document.cost_usd for document in documents if document.chunks]
    known = [cost for cost in costs if cost is not None]
    total_usd = sum(known) if len(known) == len(costs) else None
    usages = [document.usage for document in documents]
    click.echo("".join(map(_plan_line, documents)), nl=False)  # at once: each echo is flushed
    reasons = ", ".join(f"{count} {why}" for why, count in Counter(document.why for document in documents).items())
    click.echo(
        f"\n{len(documents)} documents: {reasons or 'none'}\n"
        f"to send: {sum(d.chunks for d in documents)} chunks, {sum(d.pages for d in documents)} pages, about "
        f"{sum(u.input_tokens for u in usages):,} tokens in and {sum(u.output_tokens for u in usages):,} out, "
        f"about {_dollars(total_usd)} with {job.endpoint.model}"
    )


def _plan_line(document: PlannedDocument) -> str:
    reason = f" ({shortened(document.reason, 60)})" if document.reason else ""
    size = f"{document.chunks:>4} chunks {document.pages:>5} pages  {_dollars(document.cost_usd):>9}"
    shown = size if document.chunks else ""
    return f"{document.why:<14} {shown:32} {printable(document.path)}{printable(reason)}\n"


def _dollars(cost_usd: float | None) -> str:
    return "unknown" if cost_usd is None else f"${cost_usd:.4f}"


def _print_json(value: object) -> None:
    import json

    click.echo(json.dumps(value, indent=2, allow_nan=False))
