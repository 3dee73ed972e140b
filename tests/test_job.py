"""What a job file may say, what it means, and how its mistakes are told."""

from __future__ import annotations

import os
import pickle
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import job as job_module
from pipeline.domain import RULES_MODEL
from pipeline.errors import ExitCode, SettingsError
from pipeline.job import Endpoint, Job, find, load
from pipeline.storage import Url

SHIPPED = Path(__file__).parent.parent / "jobs"
SMALLEST = '[source]\nfolder = "pdfs"\n'
FULL = """\
title = "Contract risk review"

[source]
folder = "../sample_docs/contracts"    # relative paths: from this file
include = ["**/*.pdf"]
exclude = []
follow_links = false
passwords_env = "PDF_PASSWORDS"

[endpoint]
use = "offline"
model = "claude-sonnet-5-5"
max_tokens = 8000
effort = "low"
output = "auto"
stream = false
batch = false
batch_retry = "live"
batch_wait_hours = 24
timeout_seconds = 600

[split]
max_pages = 20
max_request_mb = 30
overlap_pages = 0

[sandbox]
memory_mb = 2000
timeout_seconds = 60
cpu_seconds = 50

[workers]
concurrency = 8
requests_per_minute = 0

[engine]
use = "local"
address = "auto"
slots_per_host = 32
on_lost = "retry"

[retry]
attempts = 6
first_wait_seconds = 1.0
max_wait_seconds = 60.0

[budget]
max_usd = 25.0
[prices]
input = 2.0
output = 10.0

[prompt]
system = "..."
instructions = "Summarize this PDF and list risks to watch."
synthesis = true

[report]
folder = "../reports/contracts"
formats = ["html", "markdown", "csv", "xlsx"]

[ledger]
path = "../state/contracts.sqlite3"

[notify]
when = "news"
webhook_url_env = "WEBHOOK_URL"
smtp_host = "mail.example.com"
smtp_port = 587
smtp_user_env = "MAIL_USER"
smtp_password_env = "MAIL_PASSWORD"
starttls = true
mail_from = "docpipe@example.com"
mail_to = ["you@example.com"]
"""

Loader = Callable[..., Job]
Problems = Callable[..., list[str]]


@pytest.fixture
def job(tmp_path: Path) -> Loader:
    """Loads a job of the given text."""

    def load_text(text: str, endpoint: str | None = None) -> Job:
        path = tmp_path / "jobs" / "nightly.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return load(path, endpoint)

    return load_text


@pytest.fixture
def problems(job: Loader) -> Problems:
    """The problems of a job of the given text, each as ``LINE: rest`` or ``rest``."""

    def problems_of(text: str, endpoint: str | None = None) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            job(text, endpoint)
        return [re.sub(r"^\S+nightly\.toml:( (?=\D))?", "", line) for line in str(caught.value).splitlines()]

    return problems_of


def endpoint_of(job: Loader, settings: str, argument: str | None = None) -> Endpoint:
    return job(f"{SMALLEST}[endpoint]\n{settings}", argument).endpoint


# What a good file means


def test_the_full_example_loads(job: Loader, tmp_path: Path) -> None:
    """Every setting of the documented example is understood; paths count from the file's folder."""
    loaded = job(FULL)

    assert (loaded.name, loaded.title) == ("nightly", "Contract risk review")
    assert loaded.source.folder == tmp_path / "sample_docs" / "contracts"
    assert loaded.source.include == ("**/*.pdf",)
    assert (loaded.budget.max_usd, loaded.prices.input, loaded.prices.output) == (25.0, 2.0, 10.0)
    assert (loaded.prompt.system, loaded.endpoint.effort) == ("...", "low")
    assert loaded.report.folder == tmp_path / "reports" / "contracts"
    assert loaded.report.formats == ("html", "markdown", "csv", "xlsx")
    assert loaded.ledger.path == tmp_path / "state" / "contracts.sqlite3"


def test_the_smallest_file_gets_the_documented_defaults(job: Loader, tmp_path: Path) -> None:
    """A file that names a folder alone equals the full example in all that has a default."""
    loaded, full = job(SMALLEST), job(FULL)

    assert loaded.title == "nightly"
    assert loaded.source.folder == tmp_path / "jobs" / "pdfs"
    assert (loaded.split, loaded.workers, loaded.engine, loaded.retry) == (
        full.split, full.workers, full.engine, full.retry,
    )  # fmt: skip
    assert (loaded.source.include, loaded.source.exclude, loaded.source.follow_links) == (("**/*.pdf",), (), False)
    assert (loaded.budget.max_usd, loaded.prices.input, loaded.prices.output) == (None, None, None)
    assert loaded.report.folder == tmp_path / "reports" / "nightly"
    assert loaded.report.formats == full.report.formats
    assert loaded.ledger.path == tmp_path / "state" / "nightly.sqlite3"
    assert loaded.endpoint == Endpoint(
        use="offline",
        base_url="http://offline.invalid",
        api_key_env=None,
        auth="bearer",
        anthropic_version="2023-06-01",
        headers={},
        model=RULES_MODEL,
        max_tokens=8000,
        effort=None,
        output="auto",
        stream=False,
        batch=False,
        timeout_seconds=600.0,
        batch_retry="live",
        batch_wait_hours=24.0,
    )


@pytest.mark.parametrize("argument", [None, "yourouter"], ids=["in the file", "by option"])
def test_batches_are_refused_where_the_endpoint_offers_none(job: Loader, argument: str | None) -> None:
    """Whoever chose the endpoint; those that offer them take the same file."""
    text = SMALLEST + f'\n[endpoint]\nuse = "{"anthropic" if argument else "yourouter"}"\nbatch = true\n'

    with pytest.raises(SettingsError, match="'yourouter' offers no Message Batches; set batch = false"):
        job(text, endpoint=argument)
    assert job(text, endpoint="anthropic").endpoint.batch


def test_hosts_send_no_batches(problems: Problems, job: Loader) -> None:
    """A batch leaves from this machine; the line of the engine is named, and one word puts it right."""
    text = SMALLEST + '[engine]\nuse = "ray"\n[endpoint]\nuse = "anthropic"\nbatch = true\n'

    (told,) = problems(text)

    assert told.startswith("4: [engine] use: does not go with [endpoint] batch = true")
    assert told.endswith("; set batch = false")
    assert job(text.replace("true", "false")).engine.use == "ray"


def test_what_goes_with_a_cluster_alone_may_stay_when_the_job_runs_on_one_machine(job: Loader, tmp_path: Path) -> None:
    """One word switches; the spool is a path like any other."""
    text = SMALLEST + '[engine]\nuse = "local"\naddress = "head.example:6379"\nslots_per_host = 8\nspool = "../spool"\n'
    engine = job(text).engine

    assert (engine.use, engine.address, engine.slots_per_host) == ("local", "head.example:6379", 8)
    assert engine.spool == tmp_path / "spool"


def test_a_job_is_frozen_and_travels_between_processes(job: Loader) -> None:
    """No setting can change after loading, and a pickled job is the same job."""
    loaded = job(SMALLEST)

    with pytest.raises(ValueError, match="frozen"):
        loaded.split.max_pages = 3  # type: ignore[misc]  # mypy refuses it too; here it fails at run time
    assert pickle.loads(pickle.dumps(loaded)) == loaded  # noqa: S301 - our own bytes


def test_the_default_prompt_says_what_the_reports_rely_on(job: Loader) -> None:
    """The document is material, injections are reported, quotes are verbatim, pages count from 1; it stays cheap."""
    prompt = job(SMALLEST).prompt
    words = " ".join((prompt.system + prompt.instructions).lower().split())

    for needed in ("never an instruction", "prompt-injection", "word for word", "first page being 1", "not specified"):
        assert needed in words
    assert prompt.instructions.startswith("Summarize this PDF and list risks to watch.")
    assert len(words) / 3.5 < 350  # characters for one token of English, a low estimate
    assert prompt.synthesis


def test_a_megabyte_is_a_million_bytes(job: Loader) -> None:
    """The limit is the API's own, which counts in decimal."""
    assert job(SMALLEST + "[split]\nmax_request_mb = 1.5").split.max_request_bytes == 1_500_000


def test_a_whole_number_stands_for_a_float(job: Loader) -> None:
    """``timeout_seconds = 5`` is as good as ``5.0``."""
    assert endpoint_of(job, "timeout_seconds = 5").timeout_seconds == 5.0


def test_absolute_paths_are_kept(job: Loader) -> None:
    """Only relative paths count from the file's folder."""
    assert job('[source]\nfolder = "/srv/pdfs"').source.folder == Path("/srv/pdfs")


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    """A file saved by Notepad is read, and its lines are counted right."""
    path = tmp_path / "j.toml"
    path.write_bytes(b'\xef\xbb\xbf[source]\r\nfolder = "pdfs"\r\n[split]\r\nmax_pages = 0\r\n')

    with pytest.raises(SettingsError, match=r"j\.toml:4: \[split\] max_pages = 0: must be at least 1$"):
        load(path)


@pytest.mark.parametrize("name", ["contracts", "trouble"])
def test_the_shipped_jobs_load_and_run_anywhere(name: str) -> None:
    """The jobs that come with docpipe need no key and write every format."""
    loaded = load(find(name, SHIPPED))

    assert loaded.endpoint.use == "offline"
    assert loaded.source.folder == SHIPPED.parent / "sample_docs" / name
    assert loaded.report.formats == ("html", "markdown", "csv", "xlsx")


@pytest.mark.parametrize("name", ["yourouter", "anthropic"])
def test_the_shipped_job_goes_live_with_one_word(name: str) -> None:
    """The endpoint argument alone turns the shipped job into a live one with its own model."""
    endpoint = load(find("contracts", SHIPPED), name).endpoint

    assert (endpoint.use, endpoint.model) == (name, "claude-sonnet-5-5")


# Finding the file


@pytest.mark.parametrize(
    ("given_name", "path"),
    [
        ("contracts", "jobs/contracts.toml"),
        ("v1.2", "jobs/v1.2.toml"),
        ("contracts.toml", "contracts.toml"),
        ("./contracts", "contracts"),
        ("/etc/docpipe/night.toml", "/etc/docpipe/night.toml"),
    ],
)
def test_a_bare_name_means_a_file_in_jobs(given_name: str, path: str) -> None:
    """A slash or ``.toml`` makes it a path."""
    assert find(given_name) == Path(path)


def test_a_missing_file_names_the_nearest_job_and_all_others(tmp_path: Path) -> None:
    """The message has what to type instead."""
    for name in ("contracts", "invoices"):
        (tmp_path / f"{name}.toml").touch()

    with pytest.raises(SettingsError) as caught:
        load(find("contrakts", tmp_path))

    assert "no such file; did you mean contracts?" in str(caught.value)
    assert "contracts, invoices" in str(caught.value)
    assert caught.value.exit_code == ExitCode.SETTINGS


def test_a_missing_folder_says_that_there_are_no_jobs(tmp_path: Path) -> None:
    """The user learns that the place is wrong, not the name."""
    with pytest.raises(SettingsError, match="there are no job files in"):
        load(find("contracts", tmp_path / "nowhere"))


def test_a_folder_is_no_job_file(tmp_path: Path) -> None:
    """Naming the folder brings the jobs in it."""
    (tmp_path / "contracts.toml").touch()

    with pytest.raises(SettingsError, match=r"is a folder, not a job file.*contracts"):
        load(tmp_path)


def test_a_path_through_a_file_cannot_be_read(tmp_path: Path) -> None:
    """Whatever else the system says about the path is passed on."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="cannot be read: Not a directory"):
        load(tmp_path / "file" / "job.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_cannot_be_read(tmp_path: Path) -> None:
    """A wrong mode is a settings error, not a traceback."""
    path = tmp_path / "job.toml"
    path.touch(mode=0o000)

    with pytest.raises(SettingsError, match="cannot be read: Permission denied"):
        load(path)


@pytest.mark.parametrize("text", [b'[source]\nfolder = "Vertr\xe4ge"\n', b"\xef\xbb\xbf[source]\n# \xe4\n"])
def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path: Path, text: bytes) -> None:
    """Latin-1 umlauts are found where they are, also after a byte order mark."""
    path = tmp_path / "job.toml"
    path.write_bytes(text)

    with pytest.raises(SettingsError, match=r"job\.toml:2: is not UTF-8"):
        load(path)


# TOML that does not parse


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[source]\nfolder = "a"\nfolder = "b"\n', r"3: not valid TOML: .*this key is set twice \(at line 3, column"),
        ("[source]\n[split]\n[source]\n", r"3: not valid TOML: Cannot declare .* twice \(at line 3, column"),
        ("[source]\nfolder = pdfs\n", r"2: not valid TOML: Invalid value \(at line 2, column 10\)"),
        ('[source]\nfolder = """never\nclosed\n', r"\d: not valid TOML: .*end of document"),
        (f"[split]\nmax_pages = {'9' * 5000}\n", r"\d: not valid TOML: .*4300"),
    ],
)
def test_a_syntax_error_has_line_and_column(problems: Problems, text: str, problem: str) -> None:
    """Also a key or a table that is written twice, an open string and a number beyond measure."""
    (told,) = problems(text)

    assert re.match(problem, told)


# Values that are wrong


@pytest.mark.parametrize(
    ("section", "line", "problem"),
    [
        ("source", "include = []", "include: must name at least one pattern"),
        ("source", 'include = ["a", ""]', "include[1]: must not be empty"),
        ("source", 'exclude = [" "]', "exclude[0]: must not be empty"),
        ("source", 'include = "*.pdf"', "include: must be a list"),
        ("source", 'include = ["a", 1]', "include[1]: must be text in quotes"),
        ("source", "follow_links = 1", "follow_links = 1: must be true or false"),
        (
            "endpoint",
            'use = "your-router"',
            "use: must be one of offline, yourouter, anthropic, custom; did you mean yo",
        ),
        ("endpoint", 'auth = "basic"', "auth: must be one of bearer, x-api-key"),
        ("endpoint", 'effort = "hi"', "effort: must be one of low, medium, high, xhigh, max; did you mean high?"),
        ("endpoint", 'effort = ""', "effort: must be one of"),
        ("endpoint", 'output = "json"', "output: must be one of auto, json_schema, prompt"),
        ("endpoint", 'model = ""', "model: must not be empty"),
        ("endpoint", 'model = "a\\nb"', "model: must be one line"),
        ("endpoint", "anthropic_version = 2023-06-01", "anthropic_version: must be text in quotes"),
        ("endpoint", 'anthropic_version = "a\\nb"', "anthropic_version: must be one line of plain ASCII"),
        ("endpoint", "max_tokens = 0", "max_tokens = 0: must be at least 1"),
        ("endpoint", "stream = true\nmax_tokens = 128001", "max_tokens = 128001: must be at most 128000"),
        ("endpoint", "max_tokens = 21334", "max_tokens = 21334: needs stream = true"),
        ("endpoint", "timeout_seconds = 0", "timeout_seconds = 0: must be more than 0"),
        ("endpoint", "timeout_seconds = inf", "timeout_seconds: must be a finite number"),
        ("endpoint", "timeout_seconds = nan", "timeout_seconds: must be a finite number"),
        ("endpoint", 'batch_retry = "never"', "batch_retry"),
        ("endpoint", 'api_key_env = "my-key"', "api_key_env: must be the NAME of an environment variable"),
        ("endpoint", "headers = []", "headers: must be a table"),
        ("endpoint", 'headers = { "a b" = "c" }', "headers.a b: is not a header name"),
        ("endpoint", "headers = { a = 1 }", "headers.a: must be text in quotes"),
        ("endpoint", 'headers = { a = "b\\r\\nc: d" }', "headers.a: must be one line of plain ASCII text"),
        ("endpoint", 'headers = { "a\\nb" = "c" }', "headers.a b: is not a header name"),
        ("endpoint", 'headers = { a = "é" }', "headers.a: must be one line of plain ASCII text"),
        ("endpoint", 'headers = { Host = "x" }', "headers.Host: must not be set here"),
        ("endpoint", 'headers = { Content-Length = "3" }', "headers.Content-Length: must not be set here"),
        ("split", "max_pages = 0", "max_pages = 0: must be at least 1"),
        ("split", "max_pages = 601", "max_pages = 601: must be at most 600"),
        ("split", "max_pages = 2.0", "max_pages = 2.0: must be a whole number"),
        ("split", "max_pages = true", "max_pages = true: must be a whole number"),
        ("split", 'max_pages = "20"', "max_pages: must be a whole number"),
        ("split", f"max_pages = 0x{'f' * 9000}", "max_pages: must be at most 600"),
        ("split", "max_request_mb = 0", "max_request_mb = 0: must be more than 0"),
        ("split", "max_request_mb = 32.1", "max_request_mb = 32.1: must be at most 32"),
        ("split", "max_request_mb = true", "max_request_mb = true: must be a number"),
        ("split", "overlap_pages = -1", "overlap_pages = -1: must be at least 0"),
        (
            "source",
            'passwords_env = "open sesame"',
            "passwords_env: must be the NAME of an environment variable (capital letters, digits, _), never the key",
        ),
        ("sandbox", "memory_mb = 100", "memory_mb = 100: must be at least 200"),
        ("sandbox", "timeout_seconds = 0", "timeout_seconds = 0: must be at least 1"),
        ("sandbox", "cpu_seconds = 0", "cpu_seconds = 0: must be at least 1"),
        ("split", "overlap_pages = 20", "overlap_pages = 20: must be less than max_pages (20)"),
        ("workers", "concurrency = 0", "concurrency = 0: must be at least 1"),
        ("workers", "concurrency = 1025", "concurrency = 1025: must be at most 1024"),
        ("workers", "requests_per_minute = -1", "requests_per_minute = -1: must be at least 0"),
        ("engine", 'use = "rey"', "use: must be one of local, ray; did you mean ray?"),
        ("engine", 'on_lost = "held"', "on_lost: must be one of retry, hold; did you mean hold?"),
        ("engine", "slots_per_host = 0", "slots_per_host = 0: must be at least 1"),
        ("engine", 'address = "ray://head:10001"', 'address: must be "auto" or the head\'s "host:port"; Ray Client'),
        ("engine", 'address = "head"', 'address: must be "auto" or the head\'s "host:port"'),
        ("engine", 'address = "head:65536"', 'address: must be "auto" or the head\'s "host:port"'),
        ("engine", 'spool = "s3://bucket/spool"', "spool: must be a path on a disk, not an address"),
        ("retry", "attempts = 0", "attempts = 0: must be at least 1"),
        ("retry", "attempts = 101", "attempts = 101: must be at most 100"),
        ("retry", "first_wait_seconds = -1", "first_wait_seconds = -1: must be at least 0"),
        ("retry", "max_wait_seconds = 0.5", "max_wait_seconds = 0.5: must be at least first_wait_seconds (1)"),
        ("retry", "first_wait_seconds = 61", "max_wait_seconds = 60.0: must be at least first_wait_seconds (61)"),
        ("budget", "max_usd = 0", "max_usd = 0: must be more than 0"),
        ("budget", "max_usd = nan", "max_usd: must be a finite number"),
        ("prices", "input = -0.5", "input = -0.5: must be at least 0"),
        ("prices", "output = true", "output = true: must be a number"),
        ("prompt", 'system = ""', "system: must not be empty"),
        ("prompt", 'instructions = " "', "instructions: must not be empty"),
        ("prompt", 'synthesis = "no"', "synthesis: must be true or false"),
        ("report", 'formats = ["html", "pdf"]', "formats[1]: must be one of html, markdown, csv, xlsx"),
        ("report", 'formats = ["html", "html"]', "formats: must name each format once"),
        ("report", 'folder = ""', "folder: must not be empty"),
        ("ledger", "path = 3", "path: must be text in quotes"),
        ("ledger", 'path = "a\\u0000b"', "path: must be one line without control characters"),
    ],
)
def test_a_wrong_value_is_told_with_its_section_and_key(
    problems: Problems, section: str, line: str, problem: str
) -> None:
    """Each limit of each setting, with the value where that is a number."""
    text = f"[{section}]\n{line}\n" if section != "source" else f"{SMALLEST}{line}\n"
    text += "" if section == "source" else SMALLEST

    (told,) = problems(text)

    assert re.sub(r"^\d+: ", "", told).startswith(f"[{section}] {problem}")


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("endpoint", "max_tokens = 21333"),
        ("endpoint", "stream = true\nmax_tokens = 128000"),
        ("split", "max_pages = 600\noverlap_pages = 599\nmax_request_mb = 32"),
        ("split", "overlap_pages = 1\nmax_pages = 2"),
        ("workers", "concurrency = 1024\nrequests_per_minute = 5"),
        ("engine", 'slots_per_host = 1\naddress = "10.0.0.1:65535"'),
        ("retry", "attempts = 1\nfirst_wait_seconds = 0\nmax_wait_seconds = 0"),
        ("prices", "input = 0\noutput = 0"),
        ("report", "formats = []"),
    ],
)
def test_the_limits_themselves_are_allowed(job: Loader, section: str, line: str) -> None:
    """The largest and smallest values are taken as written."""
    loaded = job(f"{SMALLEST}[{section}]\n{line}\n")

    for name, value in tomllib.loads(line).items():
        taken = getattr(getattr(loaded, section), name)
        assert taken == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[split]\nmax_page = 3", "2: [split] max_page: unknown key; did you mean max_pages?"),
        ("[split]\nMAX_PAGES = 3", "2: [split] MAX_PAGES: unknown key; did you mean max_pages?"),
        ("[workers]\nmax_pages = 3", "2: [workers] max_pages: unknown key; it belongs under [split]"),
        ("concurrency = 3", "1: concurrency: unknown key; it belongs under [workers]"),
        ("[endpoint]\nmax_token = 3", "2: [endpoint] max_token: unknown key; did you mean max_tokens?"),
        ("[budget]\nzzz = 3", "2: [budget] zzz: unknown key; known here: max_usd"),
        ("tilte = 'x'", "1: tilte: unknown key; did you mean title?"),
        ("[worker]", "1: worker: unknown key; did you mean workers?"),
        ("split = 3", "1: [split]: must be a table"),
        ("report = 'x'", "1: [report]: must be a table"),
        ("title = ''", "1: title: must not be empty"),
    ],
)
def test_an_unknown_name_brings_the_nearest(problems: Problems, line: str, problem: str) -> None:
    """A typing slip is answered by the right name, a key under the wrong section by the right section."""
    assert problems(f"{line}\n{SMALLEST}") == [problem]


def test_all_problems_are_told_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    """Nobody has to run it again to find the next mistake; one setting does not hide another."""
    told = problems(
        "[workers]\nconcurrency = 0\n[source]\nfolder = 3\n"
        '[split]\nmax_page = 3\noverlap_pages = -1\n[retry]\nattempts = "6"\n',
        "nowhere",
    )

    assert told == [
        "--endpoint: must be one of offline, yourouter, anthropic, custom",
        "2: [workers] concurrency = 0: must be at least 1",
        "4: [source] folder: must be text in quotes",
        "6: [split] max_page: unknown key; did you mean max_pages?",
        "7: [split] overlap_pages = -1: must be at least 0",
        "9: [retry] attempts: must be a whole number",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "[source] folder: is missing"), ("title = 'x'\n\n[source]\n", "3: [source] folder: is missing")],
)
def test_a_missing_folder_setting_is_told_at_its_section(problems: Problems, text: str, problem: str) -> None:
    """Without the section there is no line to name."""
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[prices]\ninput = 2.0\n", "1: [prices] output: goes with input; set both or none"),
        ("[prices]\noutput = 10.0\n", "2: [prices] output = 10.0: goes with input; set both or none"),
        ("[prices]\ninput = 0\n", "1: [prices] output: goes with input; set both or none"),
        ("[prices]\noutput = 0\n", "2: [prices] output = 0: goes with input; set both or none"),
    ],
)
def test_one_price_alone_is_told(problems: Problems, text: str, problem: str) -> None:
    """Half a price would leave every cost unknown; a price of 0 is a price."""
    assert problems(text + SMALLEST) == [problem]


@pytest.mark.parametrize("setting", ['[report]\nfolder = "{}"', '[ledger]\npath = "{}"', '[engine]\nspool = "{}"'])
@pytest.mark.parametrize("path", ["pdfs/out", "pdfs", "x/../pdfs/deep/er", "link/out"])
def test_nothing_may_be_written_into_the_source_folder(
    problems: Problems, tmp_path: Path, setting: str, path: str
) -> None:
    """Reports, ledger and spool inside it would be read as documents, also through a link."""
    (tmp_path / "jobs" / "pdfs").mkdir(parents=True)
    (tmp_path / "jobs" / "link").symlink_to(tmp_path / "jobs" / "pdfs")

    (told,) = problems(SMALLEST + setting.format(path))

    assert re.match(r"4: \[(report\] folder|ledger\] path|engine\] spool): lies inside \[source\] folder", told)


def test_a_folder_whose_name_begins_alike_is_not_inside(job: Loader, tmp_path: Path) -> None:
    """``pdfs-reports`` is beside ``pdfs``."""
    loaded = job(SMALLEST + '[report]\nfolder = "pdfs-reports"')

    assert loaded.report.folder == tmp_path / "jobs" / "pdfs-reports"


@pytest.mark.parametrize("url", ["s3://bucket/a b", "gs://bucket", "az://container/x", "https://host.example/x"])
def test_the_source_folder_may_be_a_url(job: Loader, url: str) -> None:
    """It stays as it was written, and is never taken for a path."""
    assert job(f'[source]\nfolder = "{url}/"').source.folder == Url(url)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_the_report_folder_may_be_in_a_bucket(job: Loader, scheme: str) -> None:
    """Beside the source in the same bucket, too."""
    text = f'[source]\nfolder = "{scheme}://bucket/docs"\n[report]\nfolder = "{scheme}://bucket/docs-reports"'

    assert job(text).report.folder == Url(f"{scheme}://bucket/docs-reports")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[source]\nfolder = "s3://me:s3cr3t@bucket/x"',
            "[source] folder: must not hold a user name or password; credentials belong in the environment",
        ),
        (
            '[source]\nfolder = "ftp://host/x"',
            "[source] folder: must be a path, or a URL that begins with s3://, gs://, az:// or https://",
        ),
        (
            '[ledger]\npath = "s3://bucket/l"\n[source]\nfolder = "x"',
            "[ledger] path: must be a path on a disk, not an address",
        ),
        (
            '[report]\nfolder = "https://host/r"\n[source]\nfolder = "x"',
            "[report] folder: must be a path, or a URL that begins with s3://, gs:// or az://; a web server takes none",
        ),
        (
            '[report]\nfolder = "s3://b/x/r"\n[source]\nfolder = "s3://b/x"',
            "[report] folder: lies inside [source] folder, whose files are read as documents; choose another place",
        ),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_is_told_without_repeating_it(problems: Problems, text: str, problem: str) -> None:
    """It may hold a password."""
    assert problems(text) == [f"2: {problem}"]


# Endpoints


@pytest.mark.parametrize(
    ("use", "base_url", "api_key_env", "auth", "headers"),
    [
        ("yourouter", "https://api.yourouter.ai", "YOUROUTER_API_KEY", "bearer", {"vendor": "anthropic"}),
        ("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", "x-api-key", {}),
    ],
)
def test_one_word_sets_a_whole_endpoint(
    job: Loader, use: str, base_url: str, api_key_env: str, auth: str, headers: dict[str, str]
) -> None:
    """Address, key variable, way of sending the key and headers follow from ``use``, in the file or as argument."""
    for endpoint in (endpoint_of(job, f'use = "{use}"'), job(SMALLEST, use).endpoint):
        assert (endpoint.use, endpoint.base_url, endpoint.api_key_env) == (use, base_url, api_key_env)
        assert (endpoint.auth, endpoint.headers, endpoint.anthropic_version) == (auth, headers, "2023-06-01")


OWN = """
base_url = "https://proxy.example/claude"
api_key_env = "PROXY_KEY"
auth = "x-api-key"
anthropic_version = "2026-10-21"
headers = { X-Team = "legal" }
model = "m"
"""


@pytest.mark.parametrize("use", ["yourouter", "anthropic", "custom"])
def test_each_preset_can_be_set(job: Loader, use: str) -> None:
    """What the file says about its own endpoint wins; headers take the place of the preset's."""
    endpoint = endpoint_of(job, f'use = "{use}"{OWN}')

    assert (endpoint.base_url, endpoint.api_key_env) == ("https://proxy.example/claude", "PROXY_KEY")
    assert (endpoint.auth, endpoint.anthropic_version) == ("x-api-key", "2026-10-21")
    assert endpoint.headers == {"x-team": "legal"}


@pytest.mark.parametrize("use", ["yourouter", "anthropic", "custom"])
@pytest.mark.parametrize("argument", ["yourouter", "anthropic", "offline"])
def test_another_endpoint_takes_nothing_of_the_files_address(job: Loader, use: str, argument: str) -> None:
    """No key reaches an address that it was not meant for; the model and limits are kept."""
    endpoint = endpoint_of(job, f'use = "{use}"{OWN}max_tokens = 5', argument)
    plain = endpoint_of(job, 'model = "m"\nmax_tokens = 5', argument)

    assert (endpoint == plain) is (use != argument)
    assert endpoint.max_tokens == 5


def test_naming_the_files_own_endpoint_changes_nothing(job: Loader) -> None:
    """``--endpoint custom`` over a custom file keeps its address and key variable."""
    assert endpoint_of(job, f'use = "custom"{OWN}', "custom") == endpoint_of(job, f'use = "custom"{OWN}')


@pytest.mark.parametrize("section", ["", '[endpoint]\nuse = "yourouter"\nbase_url = "https://h"\n', "endpoint = 3\n"])
def test_custom_by_argument_needs_a_custom_file(problems: Problems, section: str) -> None:
    """An address that belongs to another endpoint does not count."""
    told = problems(section + SMALLEST, "custom")

    assert told[0] == '--endpoint custom: the job file must say [endpoint] use = "custom" and its base_url'


def test_an_unknown_argument_brings_the_nearest(problems: Problems) -> None:
    """The command line is checked like the file."""
    (told,) = problems(SMALLEST, "antropic")

    assert told.endswith("did you mean anthropic?")


def test_a_custom_endpoint_needs_an_address_but_no_key(job: Loader, problems: Problems) -> None:
    """A local model server has no key, and then none is sent."""
    assert endpoint_of(job, 'use = "custom"\nbase_url = "http://localhost:8000"').api_key_env is None
    assert problems(f'[endpoint]\nuse = "custom"\n{SMALLEST}')[0].startswith("1: [endpoint] base_url: is missing")


def test_offline_has_no_address_no_key_and_its_own_model(job: Loader) -> None:
    """Whatever the file says, nothing is sent and no answer passes for a model's."""
    endpoint = endpoint_of(job, f'use = "offline"{OWN}')

    assert (endpoint.base_url, endpoint.api_key_env, endpoint.headers) == ("http://offline.invalid", None, {})
    assert endpoint.model == RULES_MODEL


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/messages", "/v1/messages/"])
@pytest.mark.parametrize("root", ["https://h.example", "http://[::1]:8080", "HTTPS://h/some/path"])
def test_the_usual_ends_of_an_address_are_taken_as_meant(job: Loader, root: str, end: str) -> None:
    """Copied from whichever page, the address means the same."""
    assert endpoint_of(job, f'use = "custom"\nbase_url = "{root}{end}"').base_url == root


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "h.example",
        "ftp://h",
        "https://",
        "https:///v1",
        "file:///etc/passwd",
        "https://h:99999",
        "https://h:x",
        "https://[::1",
        "https://h h",
        "https://h\\n.example",
        "https://user:pass@h",
        "https://user@h",
        "https://h?key=1",
        "https://h/?",
        "https://h#x",
    ],
)
def test_an_address_is_http_with_a_host_and_nothing_more(problems: Problems, base_url: str) -> None:
    """No other scheme, no user, no query, no way to break out of the request line."""
    (told,) = problems(f'[endpoint]\nuse = "custom"\nbase_url = "{base_url}"\n{SMALLEST}')

    assert told.startswith("3: [endpoint] base_url: must ")


# Keys in the file


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "{}"',
        'apikey = "{}"',
        'key = "{}"',
        'token = "{}"',
        'headers = {{ Authorization = "Bearer {}" }}',
        'headers = {{ X-Api-Key = "{}" }}',
        'headers = {{ proxy-authorization = "{}" }}',
    ],
)
def test_a_key_in_the_file_is_refused_without_showing_it(problems: Problems, line: str) -> None:
    """The message names the environment variables instead; one setting gives one problem."""
    for secret in ("hunter2-hunter2", "sk-ant-hunter2"):
        (told,) = problems(f"[endpoint]\n{line.format(secret)}\n{SMALLEST}")

        assert told.startswith("2: [endpoint] ")
        assert "a key must not stand in this file" in told
        assert "YOUROUTER_API_KEY or ANTHROPIC_API_KEY" in told
        assert "hunter2" not in told


def every_key(data: dict[str, Any], section: str = "") -> list[str]:
    return [
        name
        for key, value in data.items()
        for name in (every_key(value, key) if isinstance(value, dict) else [f"{section}.{key}"])
    ]


EVERY_KEY = [
    *every_key(tomllib.loads(FULL)),
    "endpoint.base_url",
    "endpoint.api_key_env",
    "endpoint.auth",
    "endpoint.anthropic_version",
    "endpoint.headers",
    "endpoint.headers.team",
    "endpoint.nonsense",
    "nonsense.nonsense",
]


def outcome_of(job: Loader, text: str) -> str | None:
    """What is wrong with a job of the given text; None when nothing is."""
    try:
        job(text)
    except SettingsError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", EVERY_KEY)
@pytest.mark.parametrize("value", ['"{}"', '["{}"]', '{{ "x" = "{}" }}', '"https://u:{}@host"', '"Bearer {}"'])
def test_no_message_ever_shows_a_text_of_the_file(job: Loader, name: str, value: str) -> None:
    """A secret pasted at any place, in any shape, stays out of terminals, logs and cron mails; sk- is refused."""
    folder = "" if name == "source.folder" else 'source.folder = "pdfs"\n'

    by_prefix = outcome_of(job, f"{folder}{name.strip('.')} = {value.format('sk-hunter2')}\n")
    plain = outcome_of(job, f"{folder}{name.strip('.')} = {value.format('hunter2')}\n")

    assert by_prefix is not None or "@" in value
    assert "hunter2" not in f"{by_prefix} {plain}"


def test_a_secret_as_the_name_of_a_key_is_not_shown(problems: Problems) -> None:
    """Also where TOML itself is broken."""
    assert "hunter2" not in problems(f"sk-hunter2 = 1\n{SMALLEST}")[0]
    assert "hunter2" not in problems("[sk-hunter2]\n[sk-hunter2]\n")[0]


def test_a_key_at_the_wrong_place_is_told_as_a_key(problems: Problems) -> None:
    """That it is also no valid choice there does not matter."""
    (told,) = problems(f'[endpoint]\nuse = "sk-hunter2"\n{SMALLEST}')

    assert told.startswith("2: [endpoint] use: a key must not stand in this file")


def test_a_title_in_capitals_is_no_key(job: Loader) -> None:
    """Keys begin with a small ``sk-``; a partner's name may not."""
    assert job(f'title = "SK-Partners"\n{SMALLEST}').title == "SK-Partners"


# Lines


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[endpoint.headers]\na = "b"\n[endpoint]\nuse = "custom"\n', "3: [endpoint] base_url: is missing"),
        ("\nsplit = { overlap_pages = 0, max_pages = 0 }\n", "2: [split] max_pages = 0: must be at least 1"),
        ("\nretry.first_wait_seconds = 61\n", "2: [retry] max_wait_seconds = 60.0: must be at least first"),
    ],
)
def test_a_setting_without_a_line_of_its_own_is_told_at_its_section(
    problems: Problems, text: str, problem: str
) -> None:
    """At the section's own header if it has one, else where the section is first named."""
    (told,) = problems(text + SMALLEST)

    assert told.startswith(problem)


def test_a_hostile_name_cannot_steer_the_terminal(problems: Problems) -> None:
    """Escape sequences in a key come out as text."""
    told = problems(f'"\\u001b[31m\\u202e" = 1\n{SMALLEST}')[0]

    assert told.isprintable()


def test_every_section_and_setting_of_the_example_is_known() -> None:
    """The documented example and the models name the same settings, apart from the presets of the endpoint."""
    documented = {tuple(key.split(".")) for key in every_key(tomllib.loads(FULL))} - {("", "title")}
    sections = {name: keys for name, keys in job_module._KNOWN_KEYS.items() if name != "fields"}  # named by the job
    known = {(section, key) for section, keys in sections.items() for key in keys}

    assert documented <= known
    assert {key for section, key in known - documented if section == "endpoint"} == {
        "base_url",
        "api_key_env",
        "auth",
        "anthropic_version",
        "headers",
    }
    assert {key for section, key in known - documented if section != "endpoint"} == {
        "cache_mb",
        "max_input_tokens",
        "csv_bom",
        "keep_days",
        "spool",
        "textfile",
    }
