"""How a job's endpoint is reached: its key from the environment, and the built-in one in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline import messages, offline_batches
from pipeline.errors import SettingsError
from pipeline.job import Endpoint
from pipeline.message_batches import BATCHES_PATH
from pipeline.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from pipeline.client import Client


def key_of(endpoint: Endpoint, environment: Mapping[str, str]) -> str | None:
    """The key for an endpoint; None for one that takes none.

    Raises:
        SettingsError: the variable is not set, or holds what no header can carry.
    """
    if endpoint.api_key_env is None:
        return None
    key = environment.get(endpoint.api_key_env, "").strip()
    if not key:
        raise SettingsError(
            f"the key of the endpoint {endpoint.use!r} is missing: set the environment variable {endpoint.api_key_env} "
            '(or read with the built-in rules: use = "offline")'
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"the environment variable {endpoint.api_key_env} holds blanks or characters no key has")
    return key


def connect(endpoint: Endpoint, key: str | None, concurrency: int, sandbox: Sandbox) -> Client:
    """A client for the endpoint; the offline one answers in the worker processes of ``sandbox``.

    Raises:
        SettingsError: a proxy or certificate that the environment names cannot be used.
    """
    from pipeline.client import Client  # loads slowly, and many a run has nothing to send

    async def answer_batched(body: bytes) -> Mapping[str, Any]:
        headers = messages.headers(endpoint, "offline")
        status, _, reply = await answer_one("POST", messages.MESSAGES_PATH, headers, body)
        return offline_batches.succeeded(json.loads(reply)) if status == 200 else offline_batches.errored(reply)

    batches = offline_batches.Batches(answer_batched)

    async def answer_here(
        method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        if path.startswith(BATCHES_PATH):
            return await batches.respond(method, path, body, endpoint.base_url)
        return await answer_one(method, path, headers, body)

    async def answer_one(
        method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        call = sandbox.call(len(body), "pipeline.offline:answer", method, path, dict(headers), body)
        try:
            answer: tuple[int, Mapping[str, str], bytes] = await call
        except (SandboxError, InterruptedError) as error:
            # In the words that the API has for a PDF it stumbles over.
            message = json.dumps({"type": "error", "error": {"type": "api_error", "message": f"offline: {error}"}})
            return 500, {"content-type": "application/json"}, message.encode()
        return answer

    is_offline = endpoint.use == "offline"
    try:
        return Client(
            endpoint.base_url,
            messages.headers(endpoint, "offline" if is_offline else key),
            secret=key,
            timeout_s=endpoint.timeout_seconds,
            concurrency=concurrency,
            handler=answer_here if is_offline else None,
        )
    except (ImportError, ValueError, OSError) as error:  # proxies and certificates that the environment names
        raise SettingsError(
            f"no client can be made for {endpoint.base_url}: {error}; look at the variables *_PROXY, SSL_CERT_FILE"
        ) from None
