"""People are told how a run ended: by a webhook, by mail. Trouble with that is one line and changes nothing.

Subject, body and JSON hold nothing that could steer a mail program or a terminal, and no line says a secret: neither
the webhook's address, which lets everybody post, nor the mail server's user and password.
"""

from __future__ import annotations

import asyncio
import json
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, make_msgid
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from pipeline.domain import RunResult
from pipeline.errors import ExitCode
from pipeline.job import Job, NotifySettings
from pipeline.reports import digest, json_report
from pipeline.reports.news import news as news_of
from pipeline.reports.presentation import needing_attention, news, one_line, why_unread
from pipeline.storage import Url
from pipeline.text import printable, shortened

TIMEOUT_S = 10.0
"""For each way of telling, from looking up the host's name to the last answer; both go at the same time."""

MAX_FAILURES = 20
_MAX_SUBJECT, _MAX_REASON = 200, 300


class _NotSentError(Exception):
    """Why nobody was told; the text holds no secret."""


def is_due(settings: NotifySettings, result: RunResult) -> bool:
    """Whether somebody is to be told of this run: never of one that was interrupted, for somebody did that.

    Trouble is every exit code but 0. The first run, with nothing to compare with, is news.
    """
    if result.run.exit_code == ExitCode.INTERRUPTED:
        return False
    found = news_of(result)
    return (
        settings.when == "always"
        or result.run.exit_code != ExitCode.COMPLETE
        or (settings.when == "news" and (found is None or bool(found)))
    )


def tell(job: Job, result: RunResult, report: Path | Url, environment: Mapping[str, str]) -> list[str]:
    """Tell of a run in every way that ``[notify]`` names, if it is due; one line for each that did not work.

    ``report`` is the file to open, a path absolute. Takes at most ``TIMEOUT_S`` and raises nothing.
    """
    settings = job.notify
    if not is_due(settings, result):
        return []
    attempts = []
    if settings.webhook_url_env:
        name = settings.webhook_url_env
        attempts.append(_Attempt("webhook", lambda: _post(_secret(environment, name), as_json(result, report))))
    if settings.smtp_host:
        attempts.append(_Attempt("mail", lambda: _send(settings, as_mail(settings, result, report), environment)))
    deadline = time.monotonic() + TIMEOUT_S
    return [line for attempt in attempts for line in attempt.problems(deadline)]


def unset(settings: NotifySettings, environment: Mapping[str, str]) -> list[str]:
    """The variables that ``[notify]`` names and that hold nothing."""
    names = (settings.webhook_url_env, settings.smtp_user_env, settings.smtp_password_env)
    return [name for name in names if name and not environment.get(name, "").strip()]


def as_json(result: RunResult, report: Path | Url) -> bytes:
    """What a webhook gets: one object in ASCII; ``totals`` as in report.json, ``failures`` at most ``MAX_FAILURES``."""
    run = result.run
    failures = [
        {"path": printable(d.path), "status": d.status, "reason": one_line(shortened(why_unread(d), _MAX_REASON))}
        for d in needing_attention(result)[:MAX_FAILURES]
    ]
    message = {
        "job": printable(result.job),
        "title": one_line(result.title),
        "status": run.status,
        "exit_code": run.exit_code,
        "news": news(result),
        "stopped_because": run.stopped_because and one_line(run.stopped_because),
        "reads_with_rules": result.reads_with_rules,
        "totals": json_report.totals(result),
        "failures": failures,
        "report": printable(str(report)),
    }
    return json.dumps(message, allow_nan=False).encode("ascii")


def as_mail(settings: NotifySettings, result: RunResult, report: Path | Url) -> EmailMessage:
    """The digest with the news in its subject."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = settings.mail_from
    mail["To"] = ", ".join(settings.mail_to)
    mail["Subject"] = shortened(f"{one_line(result.title)}: {result.run.status}: {news(result)}", _MAX_SUBJECT)
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = make_msgid(domain=str(settings.mail_from).rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # keeps absence notes from answering (RFC 3834)
    text = f"{digest.render(result)}\nExit code: {result.run.exit_code}\nReport: {report}"
    # In quoted-printable it passes through servers that take 7 bits only.
    mail.set_content("".join(f"{printable(line)}\n" for line in text.split("\n")), cte="quoted-printable")
    return mail


class _Attempt:
    """One way of telling, under way in a thread.

    A thread, since nothing else bounds looking up a name; a daemon, since the process must not wait for it.
    """

    def __init__(self, what: str, send: Callable[[], None]) -> None:
        self._what = what
        self._problem: str | None = None
        self._thread = Thread(target=self._run, args=(send,), daemon=True)
        self._thread.start()

    def _run(self, send: Callable[[], None]) -> None:
        try:
            send()
        except _NotSentError as error:
            self._problem = shortened(printable(str(error)), 200)
        except Exception as error:  # noqa: BLE001 - a message that is not sent must not spoil a run
            self._problem = type(error).__name__  # its words might hold a secret

    def problems(self, deadline: float) -> Iterator[str]:
        """What went wrong until then, by ``time.monotonic``."""
        try:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            problem = f"no end within {TIMEOUT_S:.0f} s" if self._thread.is_alive() else self._problem
        except KeyboardInterrupt:  # the run itself has ended; only this can still be given up
            problem = "interrupted"
        if problem:
            yield f"notification by {self._what} failed: {problem}"


def _secret(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise _NotSentError(f"the environment variable {name} is not set")
    return value


# --- webhook


def _post(url: str, body: bytes) -> None:
    from pipeline.client import Client, is_loopback  # loads slowly, and a run that sent nothing did without
    from pipeline.messages import Body

    try:
        parts = urlsplit(url)
        host, well_formed = parts.hostname or "", url.isascii() and url.isprintable() and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        raise _NotSentError("the address must begin with https:// (http:// on this machine alone)")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    async def exchange() -> Any:
        root = f"{parts.scheme}://{parts.netloc}"
        async with Client(root, {"content-type": "application/json"}, target, TIMEOUT_S, concurrency=1) as client:
            return await client.post(target, Body(body))

    reply = asyncio.run(exchange())
    if reply.problem or not 200 <= reply.status < 300:
        raise _NotSentError(reply.problem or f"the answer was {reply.status}")


# --- mail


def _send(settings: NotifySettings, mail: EmailMessage, environment: Mapping[str, str]) -> None:
    login = None
    if settings.smtp_user_env and settings.smtp_password_env:
        login = _secret(environment, settings.smtp_user_env), _secret(environment, settings.smtp_password_env)
    try:
        with _connection(settings) as server:
            if settings.starttls and not settings.smtps:
                server.starttls(context=ssl.create_default_context())
            if login:
                server.login(*login)
            refused = server.send_message(mail, settings.mail_from, settings.mail_to)
    except smtplib.SMTPAuthenticationError as error:
        # Its words may repeat what was sent.
        raise _NotSentError(f"the server refuses the user or the password ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        refused = error.recipients
    except smtplib.SMTPResponseException as error:
        raise _NotSentError(f"{error.smtp_code} {_text(error.smtp_error)}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise _NotSentError(str(error) or type(error).__name__) from None
    if refused:
        answers = ", ".join(f"{address}: {code} {_text(words)}" for address, (code, words) in refused.items())
        raise _NotSentError(f"refused for {answers}")


def _connection(settings: NotifySettings) -> smtplib.SMTP:
    host, port = str(settings.smtp_host), settings.smtp_port
    if settings.smtps:
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, timeout=TIMEOUT_S)


def _text(words: bytes | str) -> str:
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else words
