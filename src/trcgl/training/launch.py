"""How the processes of a command were started: by torchrun, by srun or another launcher, or alone.

A shell or batch script can inherit variables of another launch (such as `RANK` and `SLURM_NTASKS`). A process that
works alone ignores these variables. A number of processes that contradicts the settings is refused.
"""

import os
from dataclasses import dataclass
from typing import Literal

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from trcgl.core.errors import RecipeError

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Launch:
    """The processes that work on a command.

    Args:
        environment: how Lightning learns of the other processes.
        rank: number of this process; the process 0 writes.
        devices: devices, and so processes, per node.
        nodes: number of machines.
    """

    environment: ClusterEnvironment
    rank: int
    devices: int
    nodes: int


def launched(devices: int | Literal["auto"], nodes: int, *, gpu: bool, option: str = "--train.") -> Launch:
    """How this process was started; Lightning's messages follow its rank.

    Args:
        devices: setting of a recipe; `auto` takes the processes of a launcher, else all GPUs, else one process.
        nodes: setting of a recipe.
        gpu: whether the work is done on GPUs.
        option: prefix of the two options, for messages.

    Raises:
        RecipeError: the variables of the launcher contradict the settings.
    """
    found = _launcher()
    if found is None:
        launch = _alone(devices, nodes, gpu=gpu, option=option)
    else:
        name, kind = found
        launch = _joined(name, kind, devices, nodes, option)
    rank_zero_only.rank = launch.rank  # type: ignore[attr-defined]
    return launch


def _launcher() -> tuple[str, type[ClusterEnvironment]] | None:
    """The launcher that started this process as one of several."""
    if TorchElasticEnvironment.detect():
        return "torchrun", TorchElasticEnvironment
    # Only srun sets the number of a step; a batch script has the other variables of SLURM, too.
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_STEP_ID" in os.environ and _number("SLURM_NTASKS") > 1 and not interactive:
        return "srun", SLURMEnvironment
    if LSFEnvironment.detect():
        return "jsrun", LSFEnvironment
    if MPIEnvironment.detect():
        return "MPI", MPIEnvironment
    return None


def _joined(name: str, kind: type[ClusterEnvironment], asked: int | Literal["auto"], nodes: int, option: str) -> Launch:
    """Join the processes of a launcher, whose number must be that of the settings."""
    srun = kind is SLURMEnvironment
    world = _number("SLURM_NTASKS") if srun else kind().world_size()
    if asked == "auto":
        local = _number("SLURM_NTASKS_PER_NODE" if srun else "LOCAL_WORLD_SIZE")
        devices = local if local and world % local == 0 else max(1, world // nodes)
        nodes = world // devices
    else:
        devices = asked
    if devices * nodes != world:
        variables = {
            "torchrun": ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "RANK"),
            "srun": ("SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_PROCID"),
        }.get(name, ())
        settings = f"{option}devices {devices} and {option}nodes {nodes} ask for {devices * nodes}"
        raise RecipeError(
            f"{name} started {world} processes{_listed(variables)}, but {settings}. Give the numbers with which {name} "
            f"was started. {_to_work_alone(variables)}"
        )
    if not srun:
        environment = kind()
        return Launch(environment, environment.global_rank(), devices, nodes)
    per_node, hosts = _number("SLURM_NTASKS_PER_NODE"), _number("SLURM_NNODES") or nodes
    if per_node != devices or hosts != nodes:
        raise RecipeError(
            f"srun was started with SLURM_NTASKS_PER_NODE {per_node or 'not set'} and SLURM_NNODES {hosts}, but "
            f"{option}devices is {devices} and {option}nodes {nodes}. Start it with `srun --nodes={nodes} "
            f"--ntasks-per-node={devices}`, or ask for these numbers with #SBATCH."
        )
    # Lightning's requeuing would save a checkpoint within a step.
    return Launch(SLURMEnvironment(auto_requeue=False), _number("SLURM_PROCID"), devices, nodes)


def _alone(devices: int | Literal["auto"], nodes: int, *, gpu: bool, option: str) -> Launch:
    """Work in this process, or let Lightning start one process per device of this machine."""
    environment = _OwnEnvironment()
    if devices == "auto":
        devices = torch.cuda.device_count() if gpu else 1
    wanted = devices * nodes
    world, local, slurm = _number("WORLD_SIZE"), os.environ.get("LOCAL_RANK"), _number("SLURM_NTASKS")
    if wanted == 1:
        if world > 1 and {"RANK", "LOCAL_RANK"} & os.environ.keys():
            raise RecipeError(
                f"this process is one of {world}{_listed(_RANKS)}, but {option}devices and {option}nodes ask for one. "
                f"Start several processes with torchrun. {_to_work_alone(_RANKS)}"
            )
        if slurm > 1 and _number("SLURM_PROCID"):
            variables = ("SLURM_NTASKS", "SLURM_PROCID")
            raise RecipeError(
                f"this process is one of {slurm}{_listed(variables)}, but {option}devices and {option}nodes ask for "
                f"one. Start several processes with srun. {_to_work_alone(variables)}"
            )
        return Launch(environment, 0, 1, 1)
    # Lightning leaves these two variables, but not WORLD_SIZE, to the next training of a script.
    second = world == 0 and {"MASTER_PORT", "NODE_RANK"} <= os.environ.keys()
    if local is not None and world != wanted and not second:
        raise RecipeError(
            f"this process has a rank{_listed(_RANKS)}, but {option}devices {devices} and {option}nodes {nodes} ask "
            f"for {wanted} processes. Start them with torchrun or srun. {_to_work_alone(_RANKS, 'start them here')}"
        )
    if nodes > 1 and local is None and not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
        raise RecipeError(
            f"{option}nodes is {nodes}, and nothing has started this command on the other machines. Start it with "
            "torchrun or srun."
        )
    environment.follows_ranks = True
    return Launch(environment, environment.node_rank() * devices + environment.local_rank(), devices, nodes)


class _OwnEnvironment(LightningEnvironment):
    """Lightning's own processes; a process that works alone has rank 0 whatever the variables are."""

    follows_ranks = False

    @property
    def creates_processes_externally(self) -> bool:
        """Whether this process was started by another one."""
        return self.follows_ranks and super().creates_processes_externally

    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return super().local_rank() if self.follows_ranks else 0

    def node_rank(self) -> int:
        """Number of this machine."""
        return super().node_rank() if self.follows_ranks else 0


def _number(name: str) -> int:
    """Value of a variable; 0 where it is missing or no number."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def _listed(names: tuple[str, ...]) -> str:
    """The variables that are set, with their values, in brackets."""
    found = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return f" ({', '.join(found)})" if found else ""


def _to_work_alone(names: tuple[str, ...], what: str = "work in one process alone") -> str:
    """The command that removes variables."""
    found = " ".join(f"-u {name}" for name in names if name in os.environ)
    return f"To {what}, remove the variables: `env {found} trcgl ...`." if found else ""
