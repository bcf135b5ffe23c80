"""`demo` and `doctor`."""

from pathlib import Path

from trcgl.verbs.verb import Done


def demo(*, out: Path = Path("trcgl-demo")) -> Done:
    """Everything on drawn phantoms, on a laptop CPU, in minutes.

    Args:
        out: Folder for the dataset, the run and the report.
    """
    from trcgl.demo import demo

    told = demo(out)
    return Done(told, told["tour"])


def doctor() -> Done:
    """What this machine has: torch, GPU, decoders, disk."""
    from trcgl.core.doctor import doctor

    told = doctor()
    lines = [
        f"trcgl {told['trcgl']}, Python {told['python']}, {told['system']}",
        f"CPUs: {told['cpus']}, memory: {told['memory_gib']} GiB, free disk: {told['disk_free_gib']} GiB",
        "GPUs: " + (", ".join(f"{one['name']} ({one['memory_gib']} GiB)" for one in told["gpus"]) or "none"),
        "packages: " + ", ".join(f"{name} {version}" for name, version in told["packages"].items()),
        "reads: " + ", ".join(name for name, there in told["decoders"].items() if there),
        *told["advice"],
    ]
    return Done(told, "\n".join(lines))
