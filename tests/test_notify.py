"""Who is told how a run ended, over real sockets: what arrives, and that trouble with it stays one line."""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from pipeline import check, job, notify
from pipeline.domain import Change, Comparison, PageRange, RunResult, RunStatus
from pipeline.errors import SettingsError
from pipeline.faults import Fault, FaultKind, FaultPlan, FaultRule
from pipeline.job import Job
from pipeline.reports import digest, json_report
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, Workspace, clause, write_pdf
from tests.report_values import RUN, a_document, a_result, a_risk, an_unopened_document, saying
from tests.test_client import Peer, Talk, answering, certificate, server_side, serving

__all__ = ["certificate"]  # a fixture

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REPORT = Path("/srv/reports/contracts/index.html")
MAIL = {"smtp_host": "127.0.0.1", "starttls": False, "mail_from": "docpipe@example.com", "mail_to": ["a@example.com"]}
PASSWORD = "correct-horse-battery"
COMPARED = Comparison("r0", "2026-03-01T02:00:00Z")


def job_with(workspace: Workspace, **keys: object) -> Job:
    """A job whose [notify] has these keys."""
    path = workspace.write_job()
    values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    path.write_text(f"{path.read_text()}\n[notify]\n{values}\n")
    return job.load(path)


def ended(result: RunResult, status: RunStatus, exit_code: int) -> RunResult:
    return replace(result, run=replace(result.run, status=status, exit_code=exit_code))


def a_night() -> RunResult:
    """A new risk, a document with a gap, and one that could not be opened."""
    new = a_document("new.pdf", risks=(replace(a_risk(), change=Change.NEW),))
    partial = a_document("part.pdf", missing=(PageRange(3, 4),))
    run = replace(RUN, status=RunStatus.INCOMPLETE, exit_code=3)
    return replace(a_result(new, partial, an_unopened_document(), run=run), compared=COMPARED)


QUIET = replace(a_result(a_document()), compared=COMPARED)
WITH_NEWS = replace(a_result(a_document(risks=(replace(a_risk(), change=Change.NEW),))), compared=COMPARED)


# --- when


@pytest.mark.parametrize(
    ("result", "told_when"),
    [
        (QUIET, {"always"}),
        (WITH_NEWS, {"always", "news"}),
        (a_result(a_document()), {"always", "news"}),  # the first run
        (ended(QUIET, RunStatus.INCOMPLETE, 3), {"always", "news", "trouble"}),
        (ended(QUIET, RunStatus.STOPPED, 5), {"always", "news", "trouble"}),
        (ended(QUIET, RunStatus.STOPPED, 7), {"always", "news", "trouble"}),
        (ended(QUIET, RunStatus.STOPPED, 9), {"always", "news", "trouble"}),
        (ended(WITH_NEWS, RunStatus.STOPPED, 130), set()),
    ],
    ids=["nothing", "news", "first", "incomplete", "account", "budget", "API down", "interrupted"],
)
def test_people_are_told_of_what_they_asked_for(workspace: Workspace, result: RunResult, told_when: set[str]) -> None:
    """By default of news and trouble; of an interrupted run never."""
    settings = {when: job_with(workspace, when=when).notify for when in ("always", "news", "trouble")}

    assert {when for when, setting in settings.items() if notify.is_due(setting, result)} == told_when
    assert job_with(workspace).notify.when == "news"


# --- the webhook


def tell(workspace: Workspace, url: str, result: RunResult | None = None) -> list[str]:
    """What is said when the webhook at ``url`` is told."""
    loaded = job_with(workspace, webhook_url_env="HOOK")
    return notify.tell(loaded, result or a_night(), REPORT, {"HOOK": url})


def test_a_webhook_gets_the_run_as_json(workspace: Workspace) -> None:
    """Status, code, news, totals as in report.json, what was not read with its reason, and the way to the report."""
    seen: list[Any] = []
    with serving(answering(OK, seen)) as server:
        assert tell(workspace, f"{server.base_url}/hooks/T0/secret?thread=1") == []

    (request,) = seen
    assert request.line == "POST /hooks/T0/secret?thread=1 HTTP/1.1"
    assert request.all("content-type") == ["application/json"]
    assert json.loads(request.body) == {
        "job": "contracts",
        "title": "Contract risk review",
        "status": "incomplete",
        "exit_code": 3,
        "news": "1 new high risk in 1 document",
        "stopped_because": None,
        "reads_with_rules": False,
        "totals": json_report.totals(a_night()),
        "failures": [
            {"path": "broken.pdf", "status": "failed", "reason": "not a PDF"},
            {"path": "part.pdf", "status": "partial", "reason": "no answer for pages 3-4"},
        ],
        "report": str(REPORT),
    }


@pytest.mark.parametrize("text", ["a\r\nb", "\x1b[2J", "\u202efdp", "\udcff", "x\x00y", "\u2028", "\x85", "z" * 9999])
def test_hostile_words_steer_neither_mail_nor_terminal(workspace: Workspace, text: str) -> None:
    """Wherever names, documents, models and servers can put them: one header each, printable lines, valid JSON."""
    result = saying(text)
    sent = json.loads(notify.as_json(result, REPORT))
    settings = job_with(workspace, **MAIL).notify
    mail = parsed(notify.as_mail(settings, result, REPORT).as_bytes())

    assert all(words.isprintable() and words == words.encode().decode() for words in strings(sent))
    assert sorted(mail.keys()) == sorted(notify.as_mail(settings, QUIET, REPORT).keys())
    assert mail["Subject"].isprintable()
    assert len(mail["Subject"]) <= 200
    assert all(line.isprintable() for line in text_of(mail).split("\n"))


def parsed(data: bytes) -> EmailMessage:
    """A message as its reader has it."""
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def text_of(mail: EmailMessage) -> str:
    """The body, its lines ended as in files."""
    return str(mail.get_content()).replace("\r\n", "\n")


def strings(value: object) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example.com/secret", "ftp://127.0.0.1/secret", "https://", "https://h:99999/secret", "secret", "ü"],
)
def test_a_webhook_without_tls_or_without_an_address_is_refused(workspace: Workspace, url: str) -> None:
    """Such an address lets everybody post who sees it on the way; only this machine may do without TLS."""
    (said,) = tell(workspace, url)

    assert said.startswith("notification by webhook failed: the address must begin with https://")
    assert "secret" not in said


def test_a_missing_address_is_told_by_the_name_of_its_variable(workspace: Workspace) -> None:
    """One line says what to set."""
    loaded = job_with(workspace, webhook_url_env="HOOK")

    said = notify.tell(loaded, a_night(), REPORT, {})

    assert said == ["notification by webhook failed: the environment variable HOOK is not set"]


@pytest.mark.parametrize("status", ["302 Found\r\nlocation: /elsewhere", "404 Not Found", "500 Oops"])
def test_any_answer_but_2xx_is_a_failure(workspace: Workspace, status: str) -> None:
    """Redirects are not followed, and the words of the answer are not repeated."""
    seen: list[Any] = []
    reply = f"HTTP/1.1 {status}\r\ncontent-length: 6\r\n\r\nsecret".encode()
    with serving(answering(reply, seen)) as server:
        said = tell(workspace, f"{server.base_url}/hooks/secret")

    assert said == [f"notification by webhook failed: the answer was {status[:3]}"]
    assert len(seen) == 1


def test_a_certificate_that_nobody_vouches_for_is_a_failure(
    workspace: Workspace, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent to it; with the authority known, the same server gets the message."""
    seen: list[Any] = []
    with serving(answering(OK, seen), server_side(certificate)) as server:
        (said,) = tell(workspace, f"https://{server.address}/hooks/secret")
        before = len(seen)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert tell(workspace, f"https://{server.address}/hooks/secret") == []

    assert "certificate verify failed" in said.lower()
    assert "secret" not in said
    assert (before, len(seen)) == (0, 1)


def a_closed_port() -> int:
    """One where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_listening_is_one_line_for_each_way(workspace: Workspace) -> None:
    """Webhook and mail are tried on their own."""
    port = a_closed_port()
    loaded = job_with(workspace, webhook_url_env="HOOK", smtp_port=port, **MAIL)

    said = notify.tell(loaded, a_night(), REPORT, {"HOOK": f"http://127.0.0.1:{port}/secret"})

    assert [line.split(" failed: ")[0] for line in said] == ["notification by webhook", "notification by mail"]
    assert all("onnect" in line and "\n" not in line and "secret" not in line for line in said)


def test_servers_that_never_answer_take_the_time_limit_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is not held up: webhook and mail wait at the same time."""
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.2)

    def silence(peer: Peer) -> None:
        with suppress(OSError):
            while peer.socket.recv(65536):
                pass

    with serving(silence) as server:
        port = int(server.address.rpartition(":")[2])
        loaded = job_with(workspace, webhook_url_env="HOOK", smtp_port=port, **MAIL)
        said = notify.tell(loaded, a_night(), REPORT, {"HOOK": f"{server.base_url}/secret"})
        accepted = server.accepted

    assert accepted == 2
    assert [line.partition(" failed: ")[0] for line in said] == ["notification by webhook", "notification by mail"]


# --- mail


@dataclass(slots=True)
class Mailbox:
    """What a mail server was told and took."""

    commands: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    @property
    def mail(self) -> EmailMessage:
        """The only message."""
        (data,) = self.data
        return parsed(data)


def mail_server(box: Mailbox, answers: Mapping[str, str], tls: ssl.SSLContext | None) -> Talk:
    """A mail server; ``answers`` by the first word of a command take the place of its usual ones."""

    def talk(peer: Peer) -> None:
        peer.send(b"220 mail.test ESMTP\r\n")
        if converse(peer.socket) == "STARTTLS" and tls:
            with tls.wrap_socket(peer.socket, server_side=True) as encrypted:
                converse(encrypted)

    def converse(connection: socket.socket) -> str:
        """Until the command that ends it: QUIT, or STARTTLS where that is taken."""
        usual = {
            "EHLO": "250-mail.test\r\n250-AUTH PLAIN\r\n250 STARTTLS" if tls else "250 mail.test",
            "STARTTLS": "220 go ahead",
            "AUTH": "235 welcome",
            "DATA": "354 go ahead",
            "QUIT": "221 bye",
        }
        with connection.makefile("rb") as file:
            while line := file.readline():
                word = line.split()[0].decode().upper()
                box.commands.append(line.decode().strip())
                answer = answers.get(word, usual.get(word, "250 ok"))
                connection.sendall(answer.encode() + b"\r\n")
                if word == "DATA" and answer.startswith("354"):
                    box.data.append(b"".join(part.removeprefix(b".") for part in iter(file.readline, b".\r\n")))
                    connection.sendall(b"250 taken\r\n")
                if word in ("QUIT", "STARTTLS"):
                    return word
        return ""

    return talk


@contextmanager
def mailing(
    answers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None, from_the_start: bool = False
) -> Iterator[tuple[Mailbox, int]]:
    """A mail server on a loopback port, whose TLS begins with STARTTLS or ``from_the_start``."""
    box = Mailbox()
    around, later = (tls, None) if from_the_start else (None, tls)
    with serving(mail_server(box, answers or {}, later), around) as server:
        yield box, int(server.address.rpartition(":")[2])


def test_the_mail_is_the_digest_with_the_news_in_its_subject(workspace: Workspace) -> None:
    """As SUMMARY.md, with the exit code and the way to the report, for everybody named."""
    to = ["a@example.com", "b@example.com"]
    with mailing() as (box, port):
        loaded = job_with(workspace, **{**MAIL, "smtp_port": port, "mail_to": to})
        assert notify.tell(loaded, a_night(), REPORT, {}) == []

    assert box.mail["Subject"] == "Contract risk review: incomplete: 1 new high risk in 1 document"
    assert (box.mail["From"], box.mail["To"]) == ("docpipe@example.com", "a@example.com, b@example.com")
    assert box.mail["Auto-Submitted"] == "auto-generated"
    assert text_of(box.mail) == f"{digest.render(a_night())}\nExit code: 3\nReport: {REPORT}\n"
    assert [line for line in box.commands if line.startswith("rcpt")] == [f"rcpt TO:<{address}>" for address in to]
    assert max(map(len, box.data[0].splitlines())) <= 78
    assert b"=0D" not in box.data[0]
    assert box.data[0].isascii()


def test_a_mail_in_any_script_arrives_as_it_is(workspace: Workspace) -> None:
    """Subject and body survive servers that know ASCII alone."""
    result = replace(a_night(), title="Prüfung der Verträge 采购合同")
    with mailing() as (box, port):
        assert notify.tell(job_with(workspace, **MAIL, smtp_port=port), result, REPORT, {}) == []

    assert box.mail["Subject"].startswith("Prüfung der Verträge 采购合同: incomplete")
    assert text_of(box.mail).startswith("# Prüfung der Verträge 采购合同: incomplete\n")
    assert box.data[0].isascii()


LOGIN = {"smtp_user_env": "MAIL_USER", "smtp_password_env": "MAIL_PASSWORD", "starttls": True}
ENVIRONMENT = {"MAIL_USER": "docpipe", "MAIL_PASSWORD": PASSWORD}


def test_user_and_password_travel_under_tls_alone(
    workspace: Workspace, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STARTTLS first, by a certificate that is vouched for; without that neither login nor mail."""
    with mailing(tls=server_side(certificate)) as (box, port):
        loaded = job_with(workspace, **{**MAIL, **LOGIN, "smtp_port": port})
        (unknown,) = notify.tell(loaded, a_night(), REPORT, ENVIRONMENT)
        before = [line.split()[0].upper() for line in box.commands]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert notify.tell(loaded, a_night(), REPORT, ENVIRONMENT) == []

    token = base64.b64encode(f"\0docpipe\0{PASSWORD}".encode()).decode()
    assert "certificate verify failed" in unknown
    assert before == ["EHLO", "STARTTLS"]
    assert f"AUTH PLAIN {token}" in box.commands
    assert box.mail["To"] == "a@example.com"


def test_on_the_port_for_it_tls_comes_first(
    workspace: Workspace, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without STARTTLS, and by a certificate that is vouched for; only a superuser's server could have port 465."""
    offer = {"EHLO": "250-mail.test\r\n250 AUTH PLAIN"}
    with mailing(offer, server_side(certificate), from_the_start=True) as (box, port):
        monkeypatch.setattr(job, "SMTPS_PORT", port)
        loaded = job_with(workspace, **{**MAIL, **LOGIN, "smtp_port": port, "starttls": False})
        (unknown,) = notify.tell(loaded, a_night(), REPORT, ENVIRONMENT)
        before = list(box.commands)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert notify.tell(loaded, a_night(), REPORT, ENVIRONMENT) == []

    assert ("certificate verify failed" in unknown, before) == (True, [])
    assert "STARTTLS" not in box.commands
    assert any(line.startswith("AUTH PLAIN ") for line in box.commands)
    assert box.mail["To"] == "a@example.com"


def test_a_server_without_starttls_gets_no_mail(workspace: Workspace) -> None:
    """Nor the password: an attacker on the way can take the offer of TLS away."""
    with mailing() as (box, port):
        loaded = job_with(workspace, **{**MAIL, **LOGIN, "smtp_port": port})
        (said,) = notify.tell(loaded, a_night(), REPORT, ENVIRONMENT)

    assert "STARTTLS" in said
    assert {line.split()[0].upper() for line in box.commands} <= {"EHLO", "QUIT"}


def test_a_refused_login_repeats_no_secret(
    workspace: Workspace, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers quote what they were sent."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    token = base64.b64encode(f"\0docpipe\0{PASSWORD}".encode()).decode()
    with mailing({"AUTH": f"535 no: docpipe {PASSWORD} {token}"}, server_side(certificate)) as (_, port):
        loaded = job_with(workspace, **{**MAIL, **LOGIN, "smtp_port": port})
        said = notify.tell(loaded, a_night(), REPORT, ENVIRONMENT)

    assert said == ["notification by mail failed: the server refuses the user or the password (535)"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"RCPT": "550 no such user"}, "refused for a@example.com: 550 no such user"),
        ({"MAIL": "550 relaying \x1b[2Jdenied"}, "550 relaying \\x1b[2Jdenied"),
        ({"DATA": "552 too much"}, "552 too much"),
    ],
)
def test_what_the_mail_server_says_is_one_printable_line(
    workspace: Workspace, answers: Mapping[str, str], words: str
) -> None:
    """A person learns what to change."""
    with mailing(answers) as (box, port):
        said = notify.tell(job_with(workspace, **MAIL, smtp_port=port), a_night(), REPORT, {})

    assert said == [f"notification by mail failed: {words}"]
    assert box.data == []


# --- in the job file


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"when": "never"}, "must be one of always, news, trouble"),
        ({"webhook_url_env": "https://hooks.example.com/hunter2"}, "must be the NAME of an environment variable"),
        ({"smtp_host": "127.0.0.1"}, "mail_from: goes with smtp_host"),
        ({"mail_to": ["a@example.com"]}, "mail_to: goes with smtp_host"),
        ({**MAIL, "mail_from": "a@example.com\r\nBcc: x@example.com"}, "must be an address"),
        ({**MAIL, "mail_to": ["a@example.com, b@example.com"]}, "must be an address"),
        ({**MAIL, "smtp_host": "mail.example.com:25"}, "must be a host"),
        ({**MAIL, **LOGIN, "starttls": False}, "starttls = false: must be true"),
        ({**MAIL, "smtp_user_env": "MAIL_USER"}, "smtp_password_env: goes with smtp_user_env"),
        ({"smtp_password": "hunter2"}, "a key must not stand in this file"),
    ],
)
def test_a_wrong_setting_is_told_before_the_run(workspace: Workspace, keys: Mapping[str, object], problem: str) -> None:
    """Half a mail server, a secret in the file, two addresses in one: exit code 4, and no secret is shown."""
    with pytest.raises(SettingsError) as error:
        job_with(workspace, **keys)

    assert problem in str(error.value)
    assert "hunter2" not in str(error.value)


def test_check_names_a_variable_that_is_not_set(workspace: Workspace) -> None:
    """Before the night, not after it."""
    loaded = job_with(workspace, **{**MAIL, **LOGIN, "webhook_url_env": "HOOK"})

    def found(**environment: str) -> tuple[str, int]:
        finding = next(finding for finding in check.check_job(loaded, environment) if finding.what == "notify")
        return finding.text, finding.exit_code

    assert found(MAIL_USER="docpipe", MAIL_PASSWORD=" ") == ("nobody would be told: set HOOK and MAIL_PASSWORD", 4)
    assert found(**ENVIRONMENT, HOOK="https://hooks.example.com/secret")[1] == 0


# --- the whole program


def test_a_stopped_run_is_told_after_its_report_is_written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Account trouble goes out with its reason; exit code and summary are those of the run."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    seen: list[Any] = []
    there: list[bool] = []

    def talk(peer: Peer) -> None:
        there.append((workspace.reports / "report.json").exists())
        answering(OK, seen)(peer)

    refusing = Endpoint(FaultPlan((FaultRule(Fault(FaultKind.AUTHENTICATION), every=1),)))
    with running(refusing) as base_url, serving(talk) as server:
        monkeypatch.setenv("HOOK", f"{server.base_url}/hooks/secret")
        workspace.write_job(base_url, notify={"webhook_url_env": "HOOK"})
        code, out, err = workspace.docpipe("run", str(workspace.job_file))

    told = json.loads(seen[0].body)
    assert (code, there) == (5, [True])
    assert (told["exit_code"], told["status"]) == (5, "stopped")
    assert "401 authentication_error" in told["stopped_because"]
    assert "notification" not in err
    assert "secret" not in out + err


def test_an_interrupt_while_a_message_is_being_sent_gives_up_the_message_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has ended, and its exit code stands; as an event, the line comes before the run's end."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    asked = threading.Event()

    def silence(peer: Peer) -> None:
        peer.request()
        asked.set()
        with suppress(OSError):
            peer.socket.recv(1)

    with serving(silence) as server:
        monkeypatch.setenv("HOOK", f"{server.base_url}/hooks/secret")
        workspace.write_job(notify={"webhook_url_env": "HOOK"})
        with workspace.start("run", str(workspace.job_file), "--log-format", "json") as process:
            assert asked.wait(DEADLINE_S)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE_S)

    said, last = [json.loads(line) for line in err.splitlines()][-2:]
    assert (process.returncode, last["event"], last["exit_code"]) == (0, "run_ended", 0)
    assert "notification by webhook failed: interrupted" in said.values()
    assert out.startswith("job: complete; ")


def test_a_notification_that_fails_changes_neither_result_nor_exit_code(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one line on stderr, so that cron mails it."""
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{a_closed_port()}/hooks/secret")
    workspace.write_job(notify={"webhook_url_env": "HOOK"})
    code, out, err = workspace.docpipe("run", str(workspace.job_file))

    assert code == 0
    assert out.startswith("job: complete; ")
    assert err.startswith("notification by webhook failed: no connection")
    assert err.count("\n") == 1
    assert "secret" not in out + err
