"""Sampling in separate processes, which can be killed or work together; see `tests.training.processes`."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path


def start(work, *arguments):
    """Run a function of this module in a new process."""
    root = str(Path(__file__).parents[2])
    if root not in sys.path:  # how the new process finds this module
        sys.path.insert(0, root)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trcgl.generate.synthesize"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def be_killed_while_writing(part, *arguments):
    """`kill -9` when half of the bytes of a part are written."""
    import numpy as np

    from trcgl.generate import sampling_run
    from trcgl.generate.synthesize import synthesize

    sampling_run.IMAGES_PER_PART = 4
    write_header = np.lib.format.write_array_header_1_0

    def write_half(handle, header):
        write_header(handle, header)
        if f"part-{part:06d}" in handle.name:
            handle.write(bytes(100))
            handle.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    np.lib.format.write_array_header_1_0 = write_half
    synthesize(*arguments)


def sample_as_one_of_two(rank, port, *arguments):
    """What `torchrun --nproc-per-node 2` starts."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }
    from trcgl.generate import sampling_run
    from trcgl.generate.synthesize import synthesize

    sampling_run.IMAGES_PER_PART = 4
    write, wrote = sampling_run.write_images, []
    sampling_run.write_images = lambda path, *images: (write(path, *images), wrote.append(path))
    synthesize(*arguments)
    sys.exit(10 + len(wrote))


def be_killed_with_a_child(pid_file):
    """`kill -9` of a process whose child would go on for ever."""
    from trcgl.generate.sampling_run import end_with

    parent = os.getpid()
    if not os.fork():
        pid_file.write_text(str(os.getpid()))
        end_with(parent)
    while not pid_file.exists():
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)


def hold(out):
    """Hold the lock of a folder until this process is killed."""
    from trcgl.core.lock import locked

    with locked(out):
        time.sleep(600)
