"""The verb `export`."""

from pathlib import Path

from trcgl.cli.verb import Done, plain, say_uncalibrated


def export(run: Path, /, *, out: Path, onnx: bool = True, push: str | None = None, private: bool = True) -> Done:
    """Write a self-contained model folder with weights, ONNX file and model card; on request, push it to the hub.

    Args:
        run: A finished run folder, preferably after `trcgl evaluate`; a model folder; or an ensemble folder, which
            is exported with all of its models.
        out: Folder to write; a finished export of the same run is left unchanged.
        onnx: Also write the ONNX file and compare it with PyTorch.
        push: Name of a Hugging Face repository, OWNER/NAME, to push to; default: nothing leaves the machine.
        private: If --push creates the repository, create it as a private repository.
    """
    from trcgl.core.folder_kind import ENSEMBLE, kind_of
    from trcgl.export import hub
    from trcgl.export.ensemble import export_ensemble
    from trcgl.export.export import export as export_model

    is_ensemble = kind_of(run) is ENSEMBLE
    result = (export_ensemble if is_ensemble else export_model)(run, out, onnx=onnx)
    if not result["calibrated"]:
        say_uncalibrated(run)
    address = hub.push(out, push, result["files"], private=private) if push else None
    lines = [f"model folder: {out} ({', '.join(result['files'])})"]
    if result["card_updated"]:
        lines.append("the model is the same; its model card has got the present evaluation of the run")
    if parity := result["parity"]:
        largest = ", ".join(f"{name} {value:.1e}" for name, value in parity["largest_difference"].items())
        lines.append(f"largest difference between ONNX and PyTorch: {largest}")
    data = out / ("members/*/DATA.md" if is_ensemble else "DATA.md")
    lines.append(f"hub: {address}" if address else f"next: read {out / 'README.md'} and complete {data}")
    return Done(result | {"hub": address}, "\n".join(lines))


VERB = plain(export, "trcgl export run --out model")
