"""How the processes of a training were started, read from the variables of launchers and left-overs of them."""

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from tests.dataset.small_dataset import small_recipe, write_dataset
from trcgl.core.errors import RecipeError
from trcgl.core.storage import read_json
from trcgl.training import launch as module
from trcgl.training.launch import launched
from trcgl.training.train import train

TORCHRUN = {
    **{"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"},
    **{"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
}
SRUN = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2"},
    **{"SLURM_NNODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_JOB_NAME": "trcgl"},
}
LEFT_OVER = [
    {"SLURM_NTASKS": "2"},
    {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
    {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_PROCID": "0"},
    {"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"},
    {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"},
    *({name: "1"} for name in ("SLURM_PROCID", "RANK", "LOCAL_RANK", "NODE_RANK")),
    {"WORLD_SIZE": "2"},
    {"RANK": "1", "WORLD_SIZE": "1", "LOCAL_RANK": "1"},
]


@pytest.fixture(autouse=True)
def without_launcher(monkeypatch):
    """No variable of a launcher but those that a test sets."""
    for name in (*module._RANKS, *SRUN, *TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rank_zero_only, "rank", 0)


@pytest.fixture
def variables(monkeypatch):
    def set_all(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize("values", LEFT_OVER, ids=str)
def test_one_process_ignores_variables_of_other_launches(values, variables, monkeypatch):
    variables(values)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # what Lightning reads from RANK and others when it is imported
    launch = launched("auto", 1, gpu=False)
    assert (launch.rank, launch.devices, launch.nodes) == (0, 1, 1)
    assert rank_zero_only.rank == 0
    environment = launch.environment
    assert (environment.local_rank(), environment.node_rank()) == (0, 0)
    assert not environment.creates_processes_externally


def test_the_processes_of_torchrun_take_part_with_their_ranks(variables):
    variables(TORCHRUN)
    for devices in (2, "auto"):
        launch = launched(devices, 1, gpu=False)
        assert isinstance(launch.environment, TorchElasticEnvironment)
        assert (launch.rank, launch.devices, launch.nodes) == (1, 2, 1)


def test_the_processes_of_srun_take_part_with_their_ranks(variables):
    variables(SRUN)
    for devices in (2, "auto"):
        launch = launched(devices, 2, gpu=False)
        assert isinstance(launch.environment, SLURMEnvironment)
        assert not launch.environment.auto_requeue
        assert (launch.rank, launch.devices, launch.nodes) == (3, 2, 2)


def test_the_processes_that_lightning_starts_take_part_with_their_ranks(variables):
    assert launched(2, 1, gpu=False).rank == 0
    variables({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"})
    launch = launched(2, 1, gpu=False)
    assert (launch.rank, launch.environment.creates_processes_externally) == (1, True)


def test_several_devices_in_a_batch_script_are_started_by_this_process(variables):
    variables({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "7"})
    launch = launched(4, 1, gpu=False)
    assert (launch.rank, launch.environment.creates_processes_externally) == (0, False)


@pytest.mark.parametrize(
    ("values", "devices", "nodes", "message"),
    [
        (TORCHRUN, 1, 1, r"torchrun started 2 processes \(.*WORLD_SIZE=2, RANK=1\).*env -u TORCHELASTIC_RUN_ID"),
        (SRUN, 1, 1, r"srun started 4 processes \(.*SLURM_NTASKS=4.*ask for 1.*env -u SLURM_STEP_ID"),
        (SRUN, 4, 1, r"srun --nodes=1 --ntasks-per-node=4"),
        ({**SRUN, "SLURM_NTASKS_PER_NODE": ""}, 2, 2, r"SLURM_NTASKS_PER_NODE not set.*--ntasks-per-node=2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 1, 1, r"one of 2 \(RANK=0, WORLD_SIZE=2\).*env -u RANK -u WORLD_SIZE trcgl"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 1, 1, r"one of 2 .*env -u SLURM_NTASKS -u SLURM_PROCID trcgl"),
        ({"LOCAL_RANK": "1"}, 2, 1, r"has a rank \(LOCAL_RANK=1\).*ask for 2.*env -u LOCAL_RANK trcgl"),
        ({}, 2, 2, r"nodes is 2, and nothing has started.*torchrun or srun"),
    ],
)
def test_ranks_that_contradict_the_settings_are_refused_with_the_variables(values, devices, nodes, message, variables):
    variables(values)
    with pytest.raises(RecipeError, match=message):
        launched(devices, nodes, gpu=False)


@pytest.mark.parametrize("values", [LEFT_OVER[0], LEFT_OVER[1], *LEFT_OVER[5:8]], ids=str)
def test_a_run_beside_left_over_variables_has_all_its_files(values, variables, tmp_path):
    variables(values)
    info = train(write_dataset(tmp_path / "data"), small_recipe(epochs=1), tmp_path / "run")
    assert read_json(tmp_path / "run" / "run.json") == info
    assert {"recipe.json", "environment.json", "metrics.jsonl", "model"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_a_refused_launch_leaves_no_folder(variables, tmp_path):
    variables(TORCHRUN)
    with pytest.raises(RecipeError, match="torchrun started 2"):
        train(write_dataset(tmp_path / "data"), small_recipe(epochs=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()
