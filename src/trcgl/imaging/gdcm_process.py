"""Decode with gdcm in a separate process, because gdcm aborts its process on many damaged files."""

import io

import numpy as np
from jaxtyping import Num

from trcgl.imaging.isolated import IsolatedProcess, Lost, serve

SECONDS = 120.0  # time limit for a file, in seconds


class GdcmProcess(IsolatedProcess):
    """Handle of the process; several threads may use it."""

    def __init__(self) -> None:
        super().__init__("trcgl.imaging.gdcm_process", SECONDS)

    def pixels(self, content: bytes) -> Num[np.ndarray, "..."]:
        """The stored values of a DICOM file.

        Raises:
            ValueError: gdcm cannot decode the file, crashed, or took more than `SECONDS`.
        """
        try:
            answer = self.ask(content)
        except Lost as error:
            raise ValueError(f"the decoder gdcm {error} on it") from error
        return np.load(io.BytesIO(answer), allow_pickle=False)


def _decoded(content: bytes) -> bytes:
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.pixel_array_options(decoding_plugin="gdcm")
    buffer = io.BytesIO()
    np.save(buffer, dataset.pixel_array)
    return buffer.getvalue()


if __name__ == "__main__":
    serve(_decoded)
