"""Training in processes of its own, which can be killed or work together. They start from a server that has imported
torch once; forking the process of the tests would copy its threads' locks.
"""

import multiprocessing
import os
import signal
import sys
from pathlib import Path


def start(work, *arguments):
    """Start a function of this module."""
    root = str(Path(__file__).parents[2])
    if root not in sys.path:  # how the new process finds this module
        sys.path.insert(0, root)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trcgl.training.train"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def train_and_exit_like_the_command_line(dataset, recipe, out):
    from trcgl.core.errors import Interrupted
    from trcgl.training.train import train

    try:
        train(dataset, recipe, out)
    except Interrupted as stopped:
        sys.exit(128 + stopped.signal)


def train_and_be_killed_while_saving(dataset, recipe, out):
    """`kill -9` when half of the bytes of the third checkpoint are written."""
    import torch

    from trcgl.training.train import train

    save, saved = torch.save, []

    def save_half(checkpoint, handle):
        save(checkpoint, handle)
        saved.append(checkpoint)
        if len(saved) == 3:
            handle.truncate(handle.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half
    train(dataset, recipe, out)


def train_as_one_of_two(dataset, recipe, out, rank, port, launcher):
    """What `torchrun --nproc-per-node 2` or `srun --ntasks-per-node=2` starts."""
    variables = {
        "torchrun": {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "test",
        },
        "srun": {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_ID": "0",
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "2",
            "SLURM_NNODES": "1",
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NODEID": "0",
        },
    }
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **variables[launcher]}
    from trcgl.training.train import train

    train(dataset, recipe, out)
