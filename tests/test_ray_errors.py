"""What stands in the way of a run on a cluster: one line that says what to do, exit 4, and nothing of Ray's own."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from pipeline import engines, job
from pipeline.check import Finding, check_job
from pipeline.engine import Secrets
from pipeline.errors import SettingsError
from pipeline.sandbox import Sandbox
from pipeline.serve import Endpoint, running
from tests.conftest import DEADLINE_S, KEY, Workspace, clause, wait_until, write_pdf
from tests.ray_cluster import RayCluster

NOT_INSTALLED = "import sys; sys.modules['ray'] = None; from pipeline.__main__ import main; main()"


def on_ray(workspace: Workspace, address: str, folder: str = "docs") -> Workspace:
    write_pdf(workspace.docs / "a.pdf", [clause(1)])
    workspace.write_job(source={"folder": folder}, engine={"use": "ray", "address": address})
    return workspace


def trouble(workspace: Workspace) -> str:
    """What the engine of its job says when it is opened, in this process."""
    loaded = job.load(workspace.job_file)
    engine = engines.engine_of(loaded, Secrets(KEY), Sandbox(1), uuid.uuid4().hex)
    with pytest.raises(SettingsError) as raised:
        engine.open()
    return str(raised.value)


def test_without_ray_the_run_says_what_to_install(workspace: Workspace) -> None:
    """One line, exit 4, no traceback."""
    on_ray(workspace, "auto")
    command = [sys.executable, "-c", NOT_INSTALLED, "run", str(workspace.job_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 4
    assert done.stderr == """error: [engine] use = "ray" needs the package ray: pip install 'docpipe[ray]'\n"""


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.ray
def test_where_nothing_listens_no_cluster_is_found(workspace: Workspace) -> None:
    """The command ends with one line, exit 4, and nothing of Ray's own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    on_ray(workspace, address)
    code, out, err = workspace.docpipe("run", str(workspace.job_file))
    assert (code, out) == (4, "")
    assert err == (
        f"error: no Ray cluster answers at {address}: [Errno 111] Connection refused; start one with `ray start"
        ' --head`, or set [engine] use = "local"\n'
    )


@pytest.mark.ray
def test_what_is_no_cluster_is_not_waited_for(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    """Another server at the address is told at once; Ray alone would try for minutes."""
    with running(Endpoint()) as base_url:
        on_ray(workspace, base_url.removeprefix("http://"))
        assert "something else is listening there" in trouble(workspace)
    assert capfd.readouterr() == ("", "")


@pytest.mark.ray
def test_a_head_that_hangs_is_not_waited_for(
    workspace: Workspace, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection alone does not make a cluster."""
    from pipeline.engines import on_ray as module

    monkeypatch.setattr(module, "_CONNECT_S", 0.1)
    assert "timed out" in trouble(on_ray(workspace, silent))


@pytest.mark.ray
def test_a_cluster_of_another_version_is_named(
    workspace: Workspace, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray's own refusal, with what runs here."""
    import ray

    here, python = ray.__version__, ".".join(map(str, sys.version_info[:3]))
    monkeypatch.setattr(ray, "__version__", "2.0.0")
    said = trouble(on_ray(workspace, cluster.address))
    assert f"the Ray cluster at {cluster.address} cannot be used with Ray 2.0.0 and Python {python}" in said
    assert here in said
    assert capfd.readouterr() == ("", "")


@pytest.mark.ray
def test_hosts_with_another_docpipe_are_refused(
    workspace: Workspace, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both versions are named; the hosts that were started for it end."""
    from pipeline.engines import on_ray as module

    cluster.heal()
    monkeypatch.setattr(module, "__version__", "0.0.0")
    said = trouble(on_ray(workspace, cluster.address))
    assert re.search(r"the host \S+ has docpipe \d+\.\d+\.\d+, and this is 0\.0\.0; install one$", said)
    wait_until(lambda: not cluster.hosts())


@pytest.mark.ray
def test_hosts_that_do_not_see_the_documents_are_refused(workspace: Workspace, cluster: RayCluster) -> None:
    """The folder must be at the same place for all."""
    cluster.heal()
    on_ray(workspace, cluster.address, folder="elsewhere")
    said = trouble(workspace)
    assert f"does not see {workspace.folder / 'elsewhere'}: put the documents on a share" in said
    assert "\n" not in said


@pytest.mark.ray
def test_a_cluster_without_processors_is_refused(
    workspace: Workspace, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that only leads is no host."""
    import ray

    nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    monkeypatch.setattr(ray, "nodes", lambda: [node | {"Resources": {}} for node in nodes()])
    said = trouble(on_ray(workspace, cluster.address))
    assert said == f"the Ray cluster at {cluster.address} has no host for this job: no node has processors to give"


@pytest.mark.ray
def test_hosts_without_docpipe_are_told_what_to_install(
    workspace: Workspace, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when the module of the actor is not there; Ray says much more of it than anybody wants to read."""
    from pipeline.engines import on_ray as module

    class RayHost:
        def __init__(self, *given: object) -> None:
            pass

        async def hello(self, folder: object) -> None:
            pass

        async def leave(self, recorded: object) -> None:
            pass

    only_here = ModuleType("only_here")
    RayHost.__module__, RayHost.__qualname__ = "only_here", "RayHost"
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    monkeypatch.setattr(only_here, "RayHost", RayHost, raising=False)
    monkeypatch.setattr(module, "RayHost", RayHost)
    cluster.heal()
    said = trouble(on_ray(workspace, cluster.address))
    assert re.search(r": the host \S+ cannot be started: ", said)
    assert "No module named 'only_here'" in said
    assert "must be installed there, in the environment that Ray was started in" in said
    assert "\n" not in said
    assert capfd.readouterr() == ("", "")


def test_check_says_that_ray_is_missing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words and the code that a run would end with."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "pipeline.engines.on_ray", raising=False)
    finding = engine_finding(on_ray(workspace, "auto"))
    assert "pip install" in finding.text
    assert finding.exit_code == 4


@pytest.mark.ray
def test_check_says_whether_the_hosts_can_do_the_job(workspace: Workspace, cluster: RayCluster) -> None:
    """They are started for it, and end."""
    cluster.heal()
    finding = engine_finding(on_ray(workspace, cluster.address))
    assert (finding.exit_code, finding.text) == (0, f"2 hosts of the Ray cluster at {cluster.address} can do this job")
    wait_until(lambda: not cluster.hosts())
    finding = engine_finding(on_ray(workspace, cluster.address, folder="elsewhere"))
    assert finding.exit_code == 4
    assert "does not see" in finding.text


def engine_finding(workspace: Workspace) -> Finding:
    """What check says of it."""
    (finding,) = [found for found in check_job(job.load(workspace.job_file), {}) if found.what == "engine"]
    return finding
