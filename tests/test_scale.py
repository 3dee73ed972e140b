"""What docs/scale.md and the files in deploy/ say fits together, and fits Ray and the job file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import job
from tests.ray_cluster import RayCluster
from tests.test_docs import JOB_FILE, PAGES, PROJECT, ROOT, section

SCALE = PAGES["docs/scale.md"]
MANIFEST = (ROOT / "deploy" / "kuberay.yaml").read_text("utf-8")
SLURM = (ROOT / "deploy" / "slurm.sh").read_text("utf-8")
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
DOCUMENTS: dict[str, Any] = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST)}
CLUSTER = DOCUMENTS["RayCluster"]["spec"]
HEAD, (HOSTS,) = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"]
JOB_POD = DOCUMENTS["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
DRIVER, HEAD_POD, HOST_POD = (
    pod["containers"][0] for pod in (JOB_POD, HEAD["template"]["spec"], HOSTS["template"]["spec"])
)


@pytest.fixture
def job_in_the_manifest(tmp_path: Path) -> job.Job:
    (name,) = DOCUMENTS["ConfigMap"]["data"]
    (tmp_path / name).write_text(DOCUMENTS["ConfigMap"]["data"][name])
    return job.load(tmp_path / name)


def test_every_pod_runs_one_image_with_the_ray_of_the_constraints() -> None:
    """Head, hosts and driver have the image that the page builds, and its Ray is the one the cluster names."""
    assert len({pod["image"] for pod in (DRIVER, HEAD_POD, HOST_POD)}) == 1
    assert f"--tag {DRIVER['image']} ." in SCALE
    assert f"--tag {DRIVER['image']} ." in DOCKERFILE
    assert f"ray=={CLUSTER['rayVersion']}\n" in (ROOT / "constraints.txt").read_text("utf-8")


def test_every_pod_has_the_token_and_the_driver_alone_the_key() -> None:
    """Each connects with the token of one Secret; the page makes that Secret and the one with the API's key."""
    for pod in (DRIVER, HEAD_POD, HOST_POD):
        mode, token = pod["env"]
        assert mode == {"name": "RAY_AUTH_MODE", "value": "token"}
        secret = token["valueFrom"]["secretKeyRef"]
        assert f"secret generic {secret['name']} --from-literal {secret['key']}=" in SCALE
    assert f"secret generic {DRIVER['envFrom'][0]['secretRef']['name']} --from-literal YOUROUTER_API_KEY=" in SCALE
    assert "envFrom" not in HOST_POD | HEAD_POD


def test_the_job_of_the_manifest_is_valid_and_lies_on_its_volumes(job_in_the_manifest: job.Job) -> None:
    """The job file in the manifest loads; hosts and driver mount its folders alike, and the driver alone the ledger."""
    driver, hosts = ({m["mountPath"]: m for m in pod["volumeMounts"]} for pod in (DRIVER, HOST_POD))
    assert str(job_in_the_manifest.source.folder) in driver
    assert str(job_in_the_manifest.engine.spool) in driver
    assert hosts == {path: mount for path, mount in driver.items() if mount["name"] == "share"}
    assert str(job_in_the_manifest.ledger.path.parent) in set(driver) - set(hosts)
    assert str(Path(str(job_in_the_manifest.report.folder)).parent) in set(driver) - set(hosts)


def test_the_pods_are_as_large_as_the_job_asks_for(job_in_the_manifest: job.Job) -> None:
    """Hosts have slots for all that may be in flight, a processor for each reader, and time to end what they do."""
    assert HOSTS["replicas"] * job_in_the_manifest.engine.slots_per_host >= job_in_the_manifest.workers.concurrency
    assert HOSTS["rayStartParams"]["num-cpus"] == HOST_POD["resources"]["limits"]["cpu"]
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert JOB_POD["terminationGracePeriodSeconds"] >= job_in_the_manifest.endpoint.timeout_seconds + 60
    assert re.search(r"@(\d+)\n", SLURM)[1] >= str(JOB_POD["terminationGracePeriodSeconds"])  # type: ignore[index]


def test_the_network_policy_shuts_everybody_else_out() -> None:
    """The pods of all three carry the label that alone may reach them."""
    policy = DOCUMENTS["NetworkPolicy"]["spec"]
    templates = (DOCUMENTS["CronJob"]["spec"]["jobTemplate"]["spec"]["template"], HEAD["template"], HOSTS["template"])
    for template in templates:
        assert template["metadata"]["labels"] == policy["podSelector"]["matchLabels"]
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]


def test_the_image_is_made_of_what_the_package_is_built_from() -> None:
    """Each file that the Dockerfile copies is there, its extra is declared, and the license files go with it."""
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())
    assert set(PROJECT["project"]["license-files"]) <= {name for names in copied for name in names.split()}
    assert re.findall(r"'\.\[(\w+)\]'", DOCKERFILE) == ["ray"]
    assert "ray" in PROJECT["project"]["optional-dependencies"]


def test_the_script_for_slurm_is_one_that_bash_reads() -> None:
    """``bash -n`` finds no error in it."""
    subprocess.run(["bash", "-n", str(ROOT / "deploy" / "slurm.sh")], check=True)


def test_every_engine_key_of_the_page_stands_in_the_reference() -> None:
    """Keys in the page's job file are those of docs/job-file.md."""
    (example,) = re.findall(r"```toml\n(.+?)```", SCALE, re.DOTALL)
    for name in re.findall(r"^(\w+) =", example.partition("[engine]")[2], re.MULTILINE):
        assert f"| `{name}` |" in section(JOB_FILE, "## [engine]")


@pytest.mark.ray
def test_every_flag_of_ray_start_exists() -> None:
    """What the page, the script and the manifest give to ``ray start`` is known to the installed Ray."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--help"]
    known = set(re.findall(r"--[a-z-]+", subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    used = {f"--{name}" for group in (HEAD, HOSTS) for name in group["rayStartParams"]}
    for text in (SCALE, SLURM, DRIVER["command"][-1].replace(" &&", "\n")):
        for line in re.findall(r"ray\"? start ((?:.|\\\n)+)", text):
            used |= set(re.findall(r"--[a-z-]+", line))
    assert len(used) >= 7
    assert used <= known


@pytest.mark.ray
def test_a_driver_without_the_token_ends_with_code_4(tmp_path: Path, cluster: RayCluster) -> None:
    """RAY_AUTH_MODE without a token: one line that says where the token is looked for, and no traceback."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "job.toml").write_text(
        f'[source]\nfolder = "documents"\n[engine]\nuse = "ray"\naddress = "{cluster.address}"\n'
        '[ledger]\npath = "ledger.sqlite3"\n[report]\nfolder = "reports"\n'
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    run = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(tmp_path / "job.toml")],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env=environment | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "token"},
    )  # fmt: skip
    assert run.returncode == 4, run.stderr
    assert "there is no token" in run.stderr
    assert "RAY_AUTH_TOKEN" in run.stderr
    assert "Traceback" not in run.stderr
