"""Work on a Dask cluster of two processes."""

import json
import os
import signal
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clusters import two_workers
from trcgl.core import cluster
from trcgl.core.errors import DataError, RecipeError

distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")


@dataclass(frozen=True)
class Square:
    number: int
    files: list[Path] = field(default_factory=list)
    kills: Path | None = None  # a file that says whether the worker was killed before

    def __call__(self):
        if self.kills and not self.kills.exists():
            self.kills.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.number**2


@dataclass(frozen=True)
class Refused:
    files: tuple = ()

    def __call__(self):
        raise DataError("row 3 is empty.")


@dataclass(frozen=True)
class Fatal:
    files: tuple = ()

    def __call__(self):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class EndsItsJob:
    """Ends all processes of its batch job, the first time."""

    ended: Path
    files: tuple = ()

    def __call__(self):
        if not self.ended.exists():
            self.ended.touch()
            os.killpg(os.getpgrp(), signal.SIGKILL)
        return "done"


@pytest.fixture(scope="module")
def address():
    with two_workers() as address:
        yield address


@pytest.fixture
def client(address):
    with cluster.connect(address) as client:
        yield client


def test_results_come_in_order_and_tasks_are_taken_as_workers_need_them(client):
    taken = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield Square(number)

    results = cluster.map_on(client, tasks())
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) < 30
    results.close()


def test_a_task_whose_worker_is_killed_runs_again(client, tmp_path):
    tasks = [Square(number, kills=tmp_path / "killed" if number == 7 else None) for number in range(20)]
    assert list(cluster.map_on(client, tasks)) == [number**2 for number in range(20)]
    assert (tmp_path / "killed").exists()


def test_a_task_that_ends_every_worker_is_an_error_that_says_so(client):
    with pytest.raises(DataError, match="4 workers ended while they ran the same task"):
        list(cluster.map_on(client, [Fatal()]))


def test_a_refusal_on_a_worker_names_its_host(client):
    with pytest.raises(DataError, match=r"^on the worker on \S+: row 3 is empty\.$"):
        list(cluster.map_on(client, [Refused()]))


def test_a_file_that_the_worker_does_not_see_is_refused_and_one_that_nobody_sees_is_not(client, tmp_path, monkeypatch):
    file = tmp_path / "scan.png"
    assert list(cluster.map_on(client, [Square(2, [file])])) == [4]
    exists = os.path.exists
    monkeypatch.setattr(cluster.os.path, "exists", lambda path: path == file or exists(path))  # here, not there
    with pytest.raises(DataError, match=r"scan\.png: the worker on \S+ does not see this file, but this machine does"):
        list(cluster.map_on(client, [Square(2, [file])]))


def test_other_versions_on_the_workers_are_refused(client, monkeypatch):
    here = cluster.versions()
    monkeypatch.setattr(cluster, "versions", lambda: {**here, "pillow": "1.0"})
    with pytest.raises(RecipeError, match=r"the worker on \S+ has pillow [\d.]+, this machine 1\.0: results could"):
        list(cluster.map_on(client, [Square(2)]))


def test_workers_without_trcgl_are_refused_before_any_task(address, monkeypatch):
    versions = distributed.Client.get_versions

    def without(client, **settings):
        found = versions(client, **settings)
        for worker in found["workers"].values():
            worker["packages"]["trcgl-net"] = None
        return found

    monkeypatch.setattr(distributed.Client, "get_versions", without)
    message = r"the worker on tcp://\S+ has trcgl-net \(not installed\), this machine"
    with pytest.raises(RecipeError, match=message), cluster.connect(address):
        pass


def test_a_cluster_that_does_not_answer_is_refused_with_its_address_and_the_time(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    message = r"--cluster tcp://127\.0\.0\.1:9: no Dask scheduler .*waited at most 0\.5 s"
    with pytest.raises(DataError, match=message), cluster.connect("tcp://127.0.0.1:9"):
        pass


def test_a_scheduler_without_workers_is_refused(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", processes=False) as empty,
        pytest.raises(DataError, match="the scheduler has no worker"),
        cluster.connect(empty.scheduler_address),
    ):
        pass


def test_a_scheduler_file_stands_for_its_address(address, tmp_path):
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": address}))
    with cluster.connect(str(tmp_path / "scheduler.json")) as other:
        assert list(cluster.map_on(other, [Square(3)])) == [9]


def test_a_number_of_workers_belongs_to_slurm():
    with pytest.raises(RecipeError, match="decides how many workers"), cluster.connect("tcp://127.0.0.1:9", 4):
        pass
    with pytest.raises(RecipeError, match="--workers 32"), cluster.connect("slurm"):
        pass


@pytest.mark.parametrize("module", ["distributed", "dask_jobqueue"])
def test_a_missing_package_is_named_with_its_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"needs {module}: pip install 'trcgl-net\[cluster\]'"
    with pytest.raises(RecipeError, match=message), cluster.connect("slurm", 2):
        pass


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands `sbatch` and `scancel` that run jobs here; the site's settings."""
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue")
    commands = {
        "sbatch": 'cp "$1" $at/job; setsid bash $at/job >>$at/log 2>&1 & echo $! >>$at/jobs\n'
        'echo "Submitted batch job $!"',
        "scancel": 'kill -- -"$1"',
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\nat={tmp_path}\n{text}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    site = {"cores": 1, "processes": 1, "memory": "1GB", "queue": "radiology", "interface": "lo"}
    with dask.config.set({"jobqueue.slurm": {**dask.config.get("jobqueue.slurm", {}), **site}}):
        yield tmp_path


def test_slurm_jobs_are_submitted_as_the_site_says_again_if_they_end_and_cancelled_at_the_end(slurm, monkeypatch):
    monkeypatch.setattr(cluster, "CHECK_SECONDS", 0.5)
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}), cluster.connect("slurm", 1) as client:
        assert "#SBATCH -p radiology" in (slurm / "job").read_text()
        assert list(cluster.map_on(client, [Square(2)])) == [4]
        assert list(cluster.map_on(client, [EndsItsJob(slurm / "ended")])) == ["done"]
    jobs = [int(line) for line in (slurm / "jobs").read_text().split()]
    assert len(jobs) == 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{job}").exists() for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{job}").exists() for job in jobs)


def test_slurm_without_settings_of_the_site_is_refused_with_the_setting_that_lacks(slurm):
    import dask

    dask.config.set({"jobqueue.slurm.cores": None})  # the fixture restores it
    with pytest.raises(RecipeError, match=r"jobqueue\.yaml does not describe .*cores"), cluster.connect("slurm", 1):
        pass


def test_jobs_that_slurm_refuses_are_an_error(slurm, monkeypatch):
    monkeypatch.setattr(cluster, "CHECK_SECONDS", 1.0)
    (slurm / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition specified' >&2\nexit 1\n")
    with pytest.raises(RecipeError, match="sbatch has refused the jobs"), cluster.connect("slurm", 1):
        pass


def test_slurm_without_sbatch_is_refused(monkeypatch, tmp_path):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipeError, match="no command sbatch here"), cluster.connect("slurm", 1):
        pass
