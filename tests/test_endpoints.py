"""Where the key comes from, and how an endpoint is reached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from pipeline import endpoints, job, messages
from pipeline.client import Reply
from pipeline.domain import RULES_MODEL
from pipeline.errors import ExitCode, SettingsError
from pipeline.job import Endpoint
from pipeline.sandbox import Sandbox
from pipeline.serve import Endpoint as ServedEndpoint
from pipeline.serve import running
from tests.conftest import KEY, Workspace

VARIABLES = {"yourouter": "YOUROUTER_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(1) as one:
        yield one


def endpoint_of(workspace: Workspace, use: str | None = None, base_url: str | None = None) -> Endpoint:
    return job.load(workspace.write_job(base_url), use).endpoint


def greeting(endpoint: Endpoint, key: str | None, sandbox: Sandbox) -> Reply:
    async def exchange() -> Reply:
        async with endpoints.connect(endpoint, key, 1, sandbox) as client:
            return await client.post(messages.MESSAGES_PATH, messages.greeting_body(endpoint))

    return asyncio.run(exchange())


@pytest.mark.parametrize("use", VARIABLES)
@pytest.mark.parametrize("value", [None, "", "  ", "\n"])
def test_a_missing_key_is_a_wrong_setting(workspace: Workspace, use: str, value: str | None) -> None:
    """A variable that is not set, or holds nothing, is named, with the way to go on without a key."""
    variable = VARIABLES[use]
    with pytest.raises(SettingsError, match=variable) as error:
        endpoints.key_of(endpoint_of(workspace, use), {} if value is None else {variable: value})
    assert error.value.exit_code is ExitCode.SETTINGS
    assert "offline" in str(error.value)


@pytest.mark.parametrize("spoiled", ["{}\nx-other: 1", "{} 2", "{}\r2", "{}\t2", "{}\x00", "{}ü", "{}\u202e", "{}\x7f"])
def test_a_key_that_no_header_can_carry_is_named_but_not_shown(workspace: Workspace, spoiled: str) -> None:
    """The message names the variable and never its value."""
    key = spoiled.format(KEY)
    with pytest.raises(SettingsError, match="YOUROUTER_API_KEY") as error:
        endpoints.key_of(endpoint_of(workspace, "yourouter"), {"YOUROUTER_API_KEY": key})
    assert KEY not in str(error.value)


def test_blanks_around_a_key_are_left_out(workspace: Workspace) -> None:
    """A line end that came along from a file does no harm."""
    endpoint = endpoint_of(workspace, "anthropic")
    assert endpoints.key_of(endpoint, {"ANTHROPIC_API_KEY": f" {KEY}\n"}) == KEY


def test_the_key_of_another_endpoint_is_never_taken(workspace: Workspace) -> None:
    """Each endpoint knows one variable."""
    others = {"ANTHROPIC_API_KEY": KEY, "DOCPIPE_TEST_KEY": KEY, "API_KEY": KEY}
    with pytest.raises(SettingsError):
        endpoints.key_of(endpoint_of(workspace, "yourouter"), others)


def test_offline_needs_no_key_and_takes_none(workspace: Workspace) -> None:
    """Not even one that is there."""
    assert endpoints.key_of(endpoint_of(workspace), dict.fromkeys(VARIABLES.values(), KEY)) is None


def test_offline_answers_in_this_process_under_the_name_of_rules(workspace: Workspace, sandbox: Sandbox) -> None:
    """No port is open, and the answer cannot pass for a model's."""
    reply = greeting(endpoint_of(workspace), None, sandbox)
    assert (reply.status, reply.problem) == (200, None)
    assert json.loads(reply.body)["model"] == RULES_MODEL


def test_a_served_endpoint_gets_the_headers_of_the_job(workspace: Workspace, sandbox: Sandbox) -> None:
    """The version and the job's own headers are those of the job file."""
    served = ServedEndpoint()
    with running(served) as base_url:
        workspace.write_job(base_url, endpoint={"anthropic_version": "2026-10-21", "auth": "x-api-key"})
        with workspace.job_file.open("a") as file:
            file.write('[endpoint.headers]\nvendor = "anthropic"\n')
        reply = greeting(job.load(workspace.job_file).endpoint, KEY, sandbox)
    assert reply.status == 200
    (seen,) = served.seen
    assert seen.headers["vendor"] == "anthropic"
    assert seen.headers["anthropic-version"] == "2026-10-21"
    assert seen.headers["user-agent"].startswith("docpipe/")


@pytest.mark.parametrize("auth", ["bearer", "x-api-key"])
def test_both_kinds_of_authorization_are_known(workspace: Workspace, sandbox: Sandbox, auth: str) -> None:
    """An endpoint that wants a key gets it in the header that the job names, and no key means no header."""
    with running(ServedEndpoint()) as base_url:
        workspace.write_job(base_url, endpoint={"auth": auth})
        endpoint = job.load(workspace.job_file).endpoint
        assert greeting(endpoint, KEY, sandbox).status == 200
        assert greeting(endpoint, None, sandbox).status == 401


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "nonsense://proxy"),
        ("HTTPS_PROXY", "http://proxy:port"),
        ("SSL_CERT_FILE", "/nowhere.pem"),
    ],
)
def test_an_environment_that_no_client_can_be_made_of_is_a_wrong_setting(
    workspace: Workspace, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The message names the endpoint and where to look, and not the key."""
    monkeypatch.setenv(variable, value)
    endpoint = endpoint_of(workspace, base_url="https://outside.invalid")
    with pytest.raises(SettingsError, match="_PROXY, SSL_CERT_FILE") as error:
        endpoints.connect(endpoint, KEY, 1, sandbox)
    assert KEY not in str(error.value)
