"""A two-node Ray cluster renders the stand-in.

Same content, on both nodes, and a lost node is no loss. Everything is real but the distance: both
nodes are processes of this machine.
"""

import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest

from alignguard_data.contracts.errors import ConfigError
from pipelines.definitions import build_definitions
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.rooms import ALL_ROOMS, COST_MODEL, PERSONAL
from pipelines.runtime.ray_cluster import RayCluster, op_tags, ray_executor
from tests.conftest import REPOSITORY, command_environment, reduced_profile
from tests.pipelines.runtime.test_side_by_side import content

RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "PYTHONPATH": str(REPOSITORY),
    "OMP_NUM_THREADS": "1",
}


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


PORT = free_port()
FAR = {"address": f"http://127.0.0.1:{PORT}", "runs": 2}
SIZES = {"writing__pairs_per_concept": 10, "sampling__batch_size": 8}


def test_only_a_step_with_a_model_asks_for_a_gpu():
    cluster = RayCluster(gpus={"images": 1, "scores": 0.5}, cpus=2)
    assert op_tags(cluster, "images") == {"dagster-ray/config": {"num_cpus": 2, "num_gpus": 1}}
    assert op_tags(cluster, "scores") == {"dagster-ray/config": {"num_cpus": 2, "num_gpus": 0.5}}
    assert op_tags(cluster, "experts") == {"dagster-ray/config": {"num_cpus": 2, "num_gpus": 0}}
    assert op_tags(cluster, "pairs") is op_tags(None, "images") is None


def test_every_room_that_loads_a_model_runs_on_the_cluster():
    """A new room is in one of the two lists: without a GPU of its own it would load on the head."""
    light = {"taxonomy", "pairs", "index", "release"}
    names = [room.name for room in (*ALL_ROOMS, PERSONAL, COST_MODEL)]
    cluster = RayCluster()
    assert {room for room in names if not cluster.runs_room(room)} == light


def test_what_is_missing_is_said_at_once(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS[\s\S]*pip install 'alignguard\[ray\]'"):
        ray_executor(RayCluster(), {})


@pytest.fixture(scope="module")
def cluster():
    """Head and worker, two CPUs and two make-believe GPUs together, no process left behind."""
    before = set(psutil.Process().children(recursive=True))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in RAY_ENVIRONMENT.items():
            patch.setenv(name, value)  # before Ray is imported
        pytest.importorskip("ray", reason="Ray is not installed: make test-slow installs it")
        pytest.importorskip("dagster_ray", reason="dagster-ray is not installed")
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}
        head = {**node, "include_dashboard": True, "dashboard_port": PORT}
        started = Cluster()
        try:
            for arguments in (head, node):
                add_patiently(started, arguments)
            started.wait_for_nodes()
            yield started
        finally:
            started.shutdown()
            left = end_of(before)
    assert not left


def add_patiently(cluster, arguments) -> None:
    """Ray gives a node 30 seconds to show itself; on a busy machine the next one may make it."""
    for attempt in range(3):
        before = set(psutil.Process().children(recursive=True))
        try:
            cluster.add_node(**arguments)
            return
        except Exception as error:  # noqa: BLE001 - Ray raises nothing narrower
            for process in set(psutil.Process().children(recursive=True)) - before:
                process.kill()
            if attempt == 2:
                pytest.fail(f"Ray does not start here: {error}")


def end_of(before: set[psutil.Process]) -> list[str]:
    """Wait for what this process started since; kills and returns what does not end."""
    own = set(psutil.Process().children(recursive=True)) - before
    _, alive = psutil.wait_procs(own, timeout=60)
    names = [process.name() for process in alive]
    for process in alive:
        process.kill()
    return names


@dataclass(frozen=True)
class Story:
    """What one run did whose second node was killed, and the run after it."""

    calm: dict[str, str]
    nodes: set[str]
    killed: subprocess.CompletedProcess[str]
    kept: dict[str, str]
    again: subprocess.CompletedProcess[str]
    finished: dict[str, str]


@pytest.fixture(scope="module")
def story(cluster, tmp_path_factory) -> Story:
    """Prompts are written here, then rendered twice: here alone, and on the cluster."""
    folder = tmp_path_factory.mktemp("ray")
    near = reduced_profile(folder / "near", **SIZES)
    command(folder / "data", near, "prompts").communicate(timeout=900)
    shutil.copytree(folder / "data", folder / "calm")
    command(folder / "calm", near).communicate(timeout=900)
    far = reduced_profile(folder / "far", **SIZES, ray=FAR)
    victim = next(iter(cluster.worker_nodes))
    first = command(folder / "data", far)
    nodes = wait_until_both_render(first)
    cluster.remove_node(victim, allow_graceful=False)
    killed = ended(first)
    kept = content(folder / "data", "images")
    again = ended(command(folder / "data", far))
    return Story(
        calm=content(folder / "calm", "images"),
        nodes=nodes,
        killed=killed,
        kept=kept,
        again=again,
        finished=content(folder / "data", "images"),
    )


def command(root, profile, until="images"):
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run", "--until", until],
        env=command_environment(root, profile) | RAY_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process) -> subprocess.CompletedProcess[str]:
    output, _ = process.communicate(timeout=1500)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def wait_until_both_render(process) -> set[str]:
    """Ids of the nodes that render; both of them, once both do."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(FAR["address"])
    until = time.monotonic() + 1200
    while process.poll() is None and time.monotonic() < until:
        found = {job.driver_node_id for job in client.list_jobs() if job.status == "RUNNING"}
        if len(found) == 2:
            return {str(node) for node in found}
        time.sleep(0.2)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
class TestTwoNodes:
    def test_both_render(self, story):
        assert len(story.nodes) == 2

    def test_a_killed_node_costs_at_most_what_it_was_making(self, story):
        """A job whose process outlives its node may still end well; then nothing is missing."""
        assert story.kept.items() <= story.calm.items(), story.killed.stdout
        assert story.killed.returncode == (0 if story.kept == story.calm else 1)

    def test_a_rerun_completes_with_the_content_of_one_process(self, story):
        assert story.again.returncode == 0, story.again.stdout
        assert story.finished == story.calm


def test_the_definitions_take_the_clusters_executor(tmp_path, monkeypatch):
    pytest.importorskip("dagster_ray", reason="Ray is not installed: make test-slow installs it")
    path = reduced_profile(tmp_path / "profile", ray=FAR)
    monkeypatch.setenv("ALIGNGUARD_PROFILE", str(path))
    definitions = build_definitions(Engines(load_profile(str(path)), tmp_path / "data"))
    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.executor_def.name == "ray"
