"""Buckets of a real S3 server on loopback for tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 60.0
ACCESS, SECRET = "AKIATESTTESTTEST0000", "vErY-sEcReT-9d8f7a6b5c4d3e2f1a0b"

_HEADERS = {
    "authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=0",
    "x-amz-acl": "public-read",
}

_CLIENT = httpx.Client(trust_env=False, verify=False)  # noqa: S501 - for loopback without TLS; a context takes 0.1 s


@dataclass(frozen=True, slots=True)
class Bucket:
    """An empty bucket; ``address`` is that of the server."""

    name: str
    address: str

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        self.asked("PUT", key, data)

    def get(self, key: str) -> bytes:
        """An object's bytes."""
        return self.asked("GET", key).content

    def asked(self, method: str, key: str, data: bytes = b"") -> httpx.Response:
        """What the server answers; it believes whoever says who they are."""
        url = f"{self.address}/{self.name}/{quote(key).replace('.', '%2E')}"  # else "../" never leaves here
        return _CLIENT.request(method, url, content=data, headers=_HEADERS).raise_for_status()

    def etags(self) -> dict[str, str]:
        """Every object's key with its etag."""
        found: dict[str, str] = {}
        more = "?list-type=2"
        while more:
            answer = _CLIENT.get(f"{self.address}/{self.name}{more}").raise_for_status()
            tree = ET.fromstring(re.sub(r' xmlns="[^"]*"', "", answer.text, count=1))  # noqa: S314 - ours
            found |= {str(o.findtext("Key")): str(o.findtext("ETag")) for o in tree.iter("Contents")}
            token = tree.findtext("NextContinuationToken")
            more = f"?list-type=2&continuation-token={quote(token)}" if token else ""
        return found

    def fail(self, faults: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
        """Answer requests for these keys so, by method and in turn: see ``s3_server``."""
        at = {f"/{self.name}/{key}": dict(methods) for key, methods in faults.items()}
        _CLIENT.post(f"{self.address}/~faults", content=json.dumps(at)).raise_for_status()

    def requests(self) -> list[str]:
        """What was asked of the server since the last call: ``GET docs/a.pdf``."""
        log: list[str] = _CLIENT.get(f"{self.address}/~log").json()
        return [line.replace(f"/{self.name}/", "", 1) for line in log]

    def wait_for(self, method: str, key: str) -> None:
        """Return when this was asked of the server since the last look at its requests; fails after a minute."""
        line = f"{method} /{self.name}/{key}"
        _CLIENT.post(f"{self.address}/~await", content=line.encode(), timeout=DEADLINE_S).raise_for_status()
        assert f"{method} {key}" in self.requests(), f"nobody asked for {method} {key}"

    def downloads(self) -> list[str]:
        """The objects that were downloaded since the last call, in order."""
        return sorted(line.split(" ", 1)[1] for line in self.requests() if re.match(r"GET [^?]+$", line))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of the server, which ends with the tests."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.s3_server"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture
def bucket(
    s3_server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """A bucket of its own, the credentials for it in the environment, and an empty cache."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-") + f"-{abs(hash(tmp_path)) % 10**8}"
    _CLIENT.put(f"{s3_server}/{name}").raise_for_status()
    made = Bucket(name, s3_server)
    made.requests()
    yield made
    made.fail({})
