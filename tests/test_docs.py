"""What the documentation says is what the program does: commands, keys, codes, defaults, links."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
import shlex
import sqlite3
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from markdown_it import MarkdownIt
from pydantic import BaseModel

from pipeline import cli, job, notify
from pipeline.domain import (
    Before,
    Change,
    ChunkState,
    Comparison,
    DocumentStatus,
    FailureClass,
    FieldValue,
    QuoteCheck,
    RunStatus,
    Severity,
    Spending,
)
from pipeline.errors import ExitCode
from pipeline.faults import FaultKind, load_script, parse_rates
from pipeline.ledger import Ledger
from pipeline.reports import csv_report, json_report, summary
from tests.report_values import a_document, a_result, a_risk

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
README, JOB_FILE, REPORT = PAGES["README.md"], PAGES["docs/job-file.md"], PAGES["docs/report.md"]
ARCHITECTURE, DECISIONS, FAULTS = (PAGES[f"docs/{name}.md"] for name in ("architecture", "decisions", "faults"))
COMMANDS = cli.main.commands


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next of the same or a higher level."""
    level = heading.index(" ")
    _, found, rest = f"\n{page}".partition(f"\n{heading}\n")
    assert found, heading
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in ``text``, headers among them."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code_blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language, the first first."""
    return [token.content for token in MarkdownIt().parse(page) if token.type == "fence" and token.info == language]


def in_code(page: str) -> set[str]:
    """Everything that stands between single backticks."""
    return set(re.findall(r"`([^`\n]+)`", page))


def command_rows() -> list[list[str]]:
    """The README's table of commands: command, make target, what it does."""
    return [row for row in rows(section(README, "## Commands")) if row[0].startswith("`docpipe")]


def options(command: click.Command) -> set[str]:
    """The long options of a command, help among them."""
    return {"--help"} | {name for p in command.params for name in (*p.opts, *p.secondary_opts) if name.startswith("--")}


# --- commands ----------------------------------------------------------------------------------------


def test_the_readme_begins_with_the_two_commands() -> None:
    """Its first code block is what a newcomer types, and nothing else."""
    first = code_blocks(README, "sh")[0].splitlines()

    assert [line.partition("#")[0].strip() for line in first] == ["make run-job JOB=contracts", "make test"]
    assert README.split("```")[0].strip() == "# docpipe"


def test_the_readme_lists_every_command_and_no_other() -> None:
    """The table of commands is that of the program."""
    assert {row[0].strip("`").split()[1] for row in command_rows()} == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_documented(name: str) -> None:
    """In the README, or for serve in the page about faults."""
    words = set(re.findall(r"--[a-z][a-z-]*", README + FAULTS))

    assert options(COMMANDS[name]) <= words


@pytest.mark.parametrize("page", sorted(PAGES))
def test_commands_in_the_examples_exist(page: str) -> None:
    """Every docpipe command and option, and every make target, in a code block or between backticks."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    blocks = "".join(code_blocks(PAGES[page], "sh"))
    for line in (*blocks.splitlines(), *sorted(in_code(PAGES[page]))):
        words = shlex.split(line, comments=True) if line.startswith(("docpipe ", "make ")) else []
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)} <= targets, line
        elif words:
            assert words[1] in {*COMMANDS, "--help", "--version"}, line
            assert {word for word in words if word.startswith("--")} <= options(COMMANDS.get(words[1], cli.main)), line


def test_every_make_target_of_a_job_is_in_the_readme() -> None:
    """The targets that run a command stand beside it."""
    listed = {row[1].strip("`") for row in command_rows()}

    assert listed - {""} == {f"{name}-job" for name in COMMANDS if name != "serve"}


def test_the_readme_lists_every_exit_code_and_no_other() -> None:
    """The table of exit codes is that of the program."""
    listed = {int(row[0]) for row in rows(section(README, "## Exit codes")) if row[0].isdigit()}

    assert listed == {int(code) for code in ExitCode}


def test_the_page_about_nights_tells_what_each_exit_code_means() -> None:
    """Every code that cron can meet, and no other."""
    listed = {
        int(row[0]) for row in rows(section(PAGES["docs/nightly.md"], "## Exit codes and mail")) if row[0].isdigit()
    }

    assert listed == {int(code) for code in ExitCode}


def test_the_summary_in_the_readme_has_the_lines_of_the_program() -> None:
    """Labels and order are those that a run prints, and it counts the sample documents there are."""
    block = next(block for block in code_blocks(README, "text") if "Documents" in block)
    printed = summary.render(a_result(a_document(), rules=True), "reports/contracts", "docpipe retry contracts")
    samples = sum(path.suffix.lower() == ".pdf" for path in (ROOT / "sample_docs" / "contracts").iterdir())

    shown, real = ([line.split(" ")[0] for line in text.splitlines()[1:]] for text in (block, printed))
    assert shown == real
    assert f"Documents   {samples}: {samples} done" in block


# --- the job file ------------------------------------------------------------------------------------


def loaded(tmp_path: Path, text: str = "", endpoint: str | None = None) -> job.Job:
    """The job of the shortest job file, called NAME, with ``text`` added."""
    path = tmp_path / "jobs" / "NAME.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'[source]\nfolder = "docs"\n{text}')
    return job.load(path, endpoint)


def as_toml(value: object) -> str:
    """A default as it stands in the tables."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {as_toml(item)}' for key, item in value.items())} }}" if value else "{}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)


def defaults(tmp_path: Path) -> dict[str, dict[str, object]]:
    """Every key of every section with its default; presets of the endpoint are left out."""
    found = loaded(tmp_path, endpoint="anthropic")
    sections: dict[str, dict[str, object]] = {}
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, BaseModel):
            sections[field.name] = {key: getattr(value, key) for key in type(value).model_fields}
    sections["endpoint"] = {field.name: getattr(found.endpoint, field.name) for field in fields(found.endpoint)}
    sections["endpoint"]["use"] = loaded(tmp_path).endpoint.use
    return sections


PRESET_KEYS = ("base_url", "api_key_env", "auth", "anthropic_version", "headers")
SHOWN_OTHERWISE = {
    **{("endpoint", key): "preset" for key in PRESET_KEYS},
    ("source", "folder"): "required",
    ("prompt", "system"): "see below",
    ("prompt", "instructions"): "see below",
    ("report", "folder"): '`"../reports/NAME"`',
    ("ledger", "path"): '`"../state/NAME.sqlite3"`',
}


def test_every_key_of_the_job_file_is_documented_with_its_default(tmp_path: Path) -> None:
    """Section by section the tables hold the keys of the program, no other, and their defaults."""
    for name, keys in defaults(tmp_path).items():
        table = {row[0].strip("`"): row[2] for row in rows(section(JOB_FILE, f"## [{name}]")) if len(row) == 4}
        wanted = {
            key: SHOWN_OTHERWISE.get((name, key), "unset" if value is None else f"`{as_toml(value)}`")
            for key, value in keys.items()
        }
        assert {key: default for key, default in table.items() if key != "key"} == wanted, name


def test_every_key_that_a_webhook_gets_is_documented() -> None:
    """In the section about notifications."""
    keys = set(json.loads(notify.as_json(a_result(), Path("index.html"))))

    assert keys <= in_code(section(JOB_FILE, "## [notify]"))


def test_the_defaults_that_hold_the_jobs_name(tmp_path: Path) -> None:
    """Title, report folder and ledger are named after the job file."""
    found = loaded(tmp_path)

    assert (found.title, found.report.folder, found.ledger.path) == (
        "NAME", tmp_path / "reports" / "NAME", tmp_path / "state" / "NAME.sqlite3",
    )  # fmt: skip
    assert ["`title`", "text, one line", '`"NAME"`'] in [row[:3] for row in rows(section(JOB_FILE, "## Top level"))]


@pytest.mark.parametrize("use", get_args(job.EndpointName))
def test_the_presets_of_each_endpoint_are_documented(tmp_path: Path, use: str) -> None:
    """Address, key variable, header and version of each ``use``."""
    address = '\nbase_url = "https://host.example"' if use == "custom" else ""
    endpoint = loaded(tmp_path, f'[endpoint]\nuse = "{use}"{address}').endpoint
    wanted = {key: getattr(endpoint, key) for key in PRESET_KEYS}
    cells = ["none" if value is None else f"`{as_toml(value)}`" for value in wanted.values()]
    if use == "custom":
        cells[0] = "must be set"

    assert [f"`{use}`", *cells] in rows(section(JOB_FILE, "## [endpoint]"))


def test_the_default_prompts_are_documented_word_for_word() -> None:
    """Line breaks aside."""
    shown = [" ".join(block.split()) for block in code_blocks(JOB_FILE, "text")]

    assert shown == [" ".join(text.split()) for text in (job.DEFAULT_SYSTEM, job.DEFAULT_INSTRUCTIONS)]


def test_the_job_files_in_the_documentation_load(tmp_path: Path) -> None:
    """Every example that names a source folder is a job file without problems."""
    examples = [block for page in PAGES.values() for block in code_blocks(page, "toml") if "[source]" in block]
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(example)
        job.load(path)

    assert len(examples) >= 2


# --- reports -----------------------------------------------------------------------------------------


def key_paths(value: Any, place: str = "") -> Iterator[str]:
    """``run.id``, ``documents[].risks[].page``: the places of all values that are no objects and hold none."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from key_paths(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from key_paths(value[0], f"{place}[]")
    else:
        yield place


def test_every_key_of_report_json_is_documented() -> None:
    """The tables of keys hold those of a rendered report, each once and no other."""
    changed = replace(a_risk(), before=Before(Severity.LOW, 6, "Then."))
    fields = (FieldValue("NAME", "text", "INV-1"),)
    document = replace(a_document(risks=(changed,)), gone_risks=(a_risk(),), fields=fields)
    result = replace(a_result(document), compared=Comparison("r0", "2026-03-01T02:00:00Z"))
    rendered = json.loads(b"".join(json_report.render(result)))
    listed = [row[0].strip("`") for row in rows(section(REPORT, "## report.json")) if len(row) == 3 and row[0] != "key"]

    assert sorted(listed) == sorted(key_paths(rendered))


def test_every_key_of_the_status_is_documented() -> None:
    """Those that are not keys of report.json too."""
    document = replace(a_document(), status=DocumentStatus.FAILED)
    printed = {"job": "x", **json_report.status(a_result(document), Spending(), 0, ())}
    of_reports = {"run": None, "totals": None}
    listed = [row[0] for row in rows(section(REPORT, "## docpipe status --json")) if len(row) == 3 and row[0] != "key"]

    assert sorted(re.findall(r"`([^`]+)`", " ".join(listed))) == sorted(key_paths({**printed, **of_reports}))


@pytest.mark.parametrize("kind", [RunStatus, DocumentStatus, ChunkState, QuoteCheck, Severity, Change])
def test_every_word_in_report_json_is_explained(kind: type[RunStatus]) -> None:
    """Each status, check and severity stands in the page about reports."""
    assert {word.value for word in kind} <= in_code(REPORT)


def test_the_columns_of_the_register_are_documented() -> None:
    """Those of risks.csv, and those of documents.csv before the job's own."""
    assert set(csv_report.COLUMNS) <= in_code(section(REPORT, "## risks.csv"))
    assert set(csv_report.DOCUMENT_COLUMNS) <= in_code(section(REPORT, "## documents.csv"))


def test_what_the_page_says_about_quotes_holds() -> None:
    """A risk whose quote was not looked for has null, and counts in none of the five."""
    rendered = json_report.totals(a_result(a_document(risks=(replace(a_risk(), quote_check=None),))))

    assert set(rendered["quotes"].values()) == {0}


# --- faults ------------------------------------------------------------------------------------------


def test_every_kind_of_fault_is_documented() -> None:
    """The table of kinds is that of the program, and the changelog counts them."""
    listed = [row[0].strip("`") for row in rows(section(FAULTS, "## Kinds"))][1:]

    assert sorted(listed) == sorted(FaultKind)
    assert f"{len(FaultKind)} kinds of faults" in PAGES["CHANGELOG.md"]


def test_the_fault_scripts_and_rates_in_the_documentation_are_valid(tmp_path: Path) -> None:
    """They load as docpipe serve loads them."""
    script = next(block for block in code_blocks(FAULTS, "toml") if "[[fault]]" in block)
    (tmp_path / "faults.toml").write_text(script)

    assert len(load_script(tmp_path / "faults.toml")) == script.count("[[fault]]")
    assert parse_rates(re.findall(r"--rate ([a-z_]+=[0-9.]+)", FAULTS))


# --- architecture and decisions ----------------------------------------------------------------------


def test_every_module_is_named_in_the_architecture() -> None:
    """A module without a place there is not finished."""
    named = in_code(ARCHITECTURE)
    modules = {path.name for path in (ROOT / "pipeline").rglob("*.py")} - {"__init__.py"}

    assert modules <= named


def test_the_floors_are_those_of_the_contract() -> None:
    """The drawing and pyproject.toml say the same, floor by floor."""
    drawn = code_blocks(section(ARCHITECTURE, "## Modules and floors"), "text")[0].splitlines()
    contracts = PROJECT["tool"]["importlinter"]["contracts"]

    assert [drawn] == [contract["layers"] for contract in contracts if contract["type"] == "layers"]


def test_the_tables_of_the_ledger_are_documented(tmp_path: Path) -> None:
    """Each table with its columns, in their order."""
    with Ledger.writing(tmp_path / "ledger.sqlite3"):
        pass
    database = sqlite3.connect(tmp_path / "ledger.sqlite3")
    names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")] for name in names}
    database.close()
    tables = rows(section(ARCHITECTURE, "## The ledger"))
    described = {row[0].strip("`"): re.findall(r"`([a-z0-9_]+)`", row[2]) for row in tables}

    assert {name: described.get(name) for name in names} == columns


@pytest.mark.parametrize("kind", [FailureClass, ChunkState])
def test_failure_classes_and_chunk_states_are_explained(kind: type[FailureClass]) -> None:
    """What happens after each failure, and what each state means."""
    words = set(re.findall(r"[a-z_]+", section(ARCHITECTURE, "## Failures") + section(ARCHITECTURE, "## The ledger")))

    assert {word.value for word in kind} <= words


def test_every_library_earns_its_line() -> None:
    """Each dependency, those for development too, stands in the decisions in bold, and no other."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    bold = set(re.findall(r"\*\*([^*\n]+)\*\*", section(DECISIONS, "## Libraries")))

    assert bold == {re.split(r"[<>=,]", line, maxsplit=1)[0] for line in declared}


# --- links and files ---------------------------------------------------------------------------------


def anchors(page: str) -> set[str]:
    """The names of a page's headings, as readers of Markdown on the web make them."""
    tokens = MarkdownIt().parse(page)
    titles = [after.content for before, after in itertools.pairwise(tokens) if before.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_pages_are_wrapped(page: str) -> None:
    """At 120 columns, so that a change shows as a change of lines; tables and blocks of code cannot be."""
    prose = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)

    assert not [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link leads to a file of the project, and to a heading where it names one."""
    inline = [child for token in MarkdownIt().parse(PAGES[page]) for child in token.children or ()]
    links = [str(child.attrs["href"]) for child in inline if child.type == "link_open"]
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Every text file under version control, new ones included, by its path."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        try:
            yield name, (ROOT / name).read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue  # not a text, or deleted


def test_no_file_holds_the_address_of_a_package_index() -> None:
    """Where packages come from is the user's setting, and may be private."""
    # Written so that it does not find itself.
    address = re.compile(
        r"index[-_]url|find[-_]links|trusted[-_]host|pythonhosted\.org|pypi\.org|[/]simple/", re.IGNORECASE
    )
    texts = dict(tracked_texts())

    assert "constraints.txt" in texts
    assert [name for name, text in texts.items() if address.search(text)] == []


def test_constraints_are_names_and_versions() -> None:
    """No address, no path, no option; each name once."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    names = [re.fullmatch(r"([A-Za-z0-9._-]+)==[0-9][A-Za-z0-9.+!]*", line) for line in lines]

    assert all(names), lines
    assert len({normal(match[1]) for match in names if match}) == len(lines)


def test_constraints_pin_everything_that_the_project_installs() -> None:
    """All that its requirements bring along here, for development and for the build too."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {normal(line.partition("==")[0]) for line in lines}
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    wanted += PROJECT["build-system"]["requires"]

    assert installed(wanted) - pinned == set()


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(requirements: list[str]) -> set[str]:
    """The names of the distributions that these requirements bring along and that are installed here."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(requirements)
    while waiting:
        line = waiting.pop()
        name, wanted = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", line).groups()  # type: ignore[union-attr]
        if line in seen:
            continue
        seen.add(line)
        try:
            inner = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform, or for another version of Python
        found.add(normal(name))
        extras = set(re.split(r"[,\s]+", wanted or ""))
        for requirement in inner:
            extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement)
            if extra is None or extra[1] in extras:
                waiting.append(requirement)
    return found
