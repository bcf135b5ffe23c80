"""Decode with gdcm in a separate process, because gdcm aborts its process on many damaged files."""

import json
from typing import Any

import numpy as np
from jaxtyping import UInt

from trcgl.imaging.isolated import IsolatedProcess, Lost, serve

SECONDS = 120.0  # time limit for a file, in seconds


class GdcmProcess(IsolatedProcess):
    """Handle of the process; several threads may use it."""

    def __init__(self) -> None:
        super().__init__("trcgl.imaging.gdcm_process", SECONDS)

    def pixels(
        self, frame: bytes, syntax: str, rows: int, columns: int, bits: int
    ) -> UInt[np.ndarray, "{rows} {columns}"]:
        """The words of a compressed frame with one component.

        Args:
            frame: a JPEG or JPEG-LS stream.
            syntax: UID of its transfer syntax.
            rows: height of the image in pixels.
            columns: width of the image in pixels.
            bits: number of bits of a sample that the stream announces.

        Raises:
            ValueError: gdcm cannot decode the frame, crashed, or took more than `SECONDS`.
        """
        asked = {"syntax": syntax, "rows": rows, "columns": columns, "bits": bits}
        try:
            answer = self.ask(b"\n".join([json.dumps(asked).encode(), frame]))
        except Lost as error:
            raise ValueError(f"the decoder gdcm {error} on it") from error
        return np.frombuffer(answer, np.uint8 if bits <= 8 else "<u2").reshape(rows, columns)


def _answer(question: bytes) -> bytes:
    head, _, frame = question.partition(b"\n")
    return _decoded(frame, **json.loads(head))


def _decoded(frame: bytes, *, syntax: str, rows: int, columns: int, bits: int) -> bytes:
    import gdcm

    fragment: Any = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    pixels = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    pixels.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(pixels)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    # As unsigned words: the sign is a matter of the header, which describes the words that were compressed.
    image.SetPixelFormat(gdcm.PixelFormat(1, 8 if bits <= 8 else 16, bits, bits - 1, 0))
    return image.GetBuffer().encode("utf-8", "surrogateescape")  # gdcm returns char* as text


if __name__ == "__main__":
    serve(_answer)
