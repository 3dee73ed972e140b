"""A bucket and a cluster together: each document comes to the host that reads it, and to no other machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets import ACCESS, SECRET, Bucket
from tests.conftest import Workspace, clause, write_pdf
from tests.ray_cluster import RayCluster

pytestmark = pytest.mark.ray

NAMES = [f"{number}.pdf" for number in range(8)]


@pytest.fixture
def near_bucket(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """Nodes with credentials for the bucket in their environment."""
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    nodes = RayCluster()
    yield nodes
    nodes.stop()


def of_documents(bucket: Bucket) -> list[str]:
    """What was downloaded, but for the report of the last run."""
    return [key for key in bucket.downloads() if key.startswith("docs/")]


def test_each_document_is_downloaded_once_and_by_the_host_that_reads_it(
    bucket: Bucket, near_bucket: RayCluster, workspace: Workspace, tmp_path: Path
) -> None:
    """Hashed, opened, cut and drawn from one copy; the driver downloads none, and a second run nobody any."""
    for number, name in enumerate(NAMES):
        path = write_pdf(workspace.docs / name, [clause(number * 10 + page) for page in range(3)])
        bucket.put(f"docs/{name}", path.read_bytes())
    workspace.write_job(
        None,
        source={"folder": f"s3://{bucket.name}/docs"},
        report={"folder": f"s3://{bucket.name}/reports", "formats": ["html"]},
        engine={"use": "ray", "address": near_bucket.address},
        split={"max_pages": 1},
    )
    bucket.requests()

    code, _, err = workspace.docpipe("run", str(workspace.job_file))

    assert code == 0, err
    assert of_documents(bucket) == [f"docs/{name}" for name in NAMES]
    assert not (tmp_path / "cache").exists()  # the driver's
    copies = [list(node.glob("docpipe/files/*")) for node in near_bucket.folder.glob("cache-*")]
    assert len(copies) == 2
    assert all(copies), "one host read all"
    assert sum(map(len, copies)) == len(NAMES)
    report = json.loads(bucket.get("reports/report.json"))
    assert [(d["path"], d["status"], len(d["risks"])) for d in report["documents"]] == [(n, "done", 3) for n in NAMES]

    bucket.requests()
    assert workspace.docpipe("run", str(workspace.job_file))[0] == 0
    assert of_documents(bucket) == []
