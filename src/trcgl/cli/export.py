"""The verb that lets a model out of its run."""

from pathlib import Path

from trcgl.cli.verb import Done, Verb, plain, say_uncalibrated


def export(run: Path, /, *, out: Path, onnx: bool = True, push: str | None = None, private: bool = True) -> Done:
    """A model folder that stands on its own: weights, ONNX, model card; on request to the Hugging Face hub.

    Args:
        run: A finished run folder, best after `trcgl evaluate`; or a model folder.
        out: The folder to write; new, or the same export.
        onnx: Write the ONNX file too, and hold it against PyTorch.
        push: OWNER/NAME on the hub. Without it nothing leaves the machine.
        private: A repository that --push makes is hidden from others.
    """
    from trcgl.export import export as stage
    from trcgl.export import hub

    told = stage.export(run, out, onnx=onnx)
    if not told["calibrated"]:
        say_uncalibrated(run)
    address = hub.push(out, push, told["files"], private=private) if push else None
    lines = [f"model folder: {out} ({', '.join(told['files'])})"]
    if told["parity"]:
        parity = told["parity"]
        largest = ", ".join(f"{name} {value:.1e}" for name, value in parity["largest_difference"].items())
        lines.append(f"ONNX against PyTorch at batches {', '.join(map(str, parity['batches']))}: {largest}")
    lines.append(f"hub: {address}" if address else f"next: read {out / 'README.md'} and complete {out / 'DATA.md'}")
    return Done(told | {"hub": address}, "\n".join(lines))


VERB = Verb(
    "A model folder that stands on its own: weights, ONNX, model card.",
    "trcgl export run --out model",
    plain(export),
)
