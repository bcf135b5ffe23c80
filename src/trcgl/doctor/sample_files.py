"""A tiny file of every supported kind, made in memory: 16 x 16 pixels, left half black, right half white.

The compressed frames were written by Pillow and libjpeg-turbo (JPEG of 8 and 12 bits), OpenJPH (HTJ2K) and gdcm (the
others); the other files are written here.
"""

import base64
import io
from collections.abc import Callable

import numpy as np

SIDE = 16

FRAMES = {
    "JPEGBaseline8Bit": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUV"
        "DA8XGBYUGBIUFRT/wAALCAAQABABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAACgn/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/"
        "AJVFUCrlUP/Z"
    ),
    "JPEGExtended12Bit": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggL"
        "DAsKDAkKCgr/wQALDAAQABABAREA/8QAFAABAAAAAAAAAAAAAAAAAAAADv/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AP/5/+AAG"
        "f/j/2Q=="
    ),
    "JPEGLosslessSV1": (
        "/9j/wwALEAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAAgQ/9oACAEBAAEAAMAu8AAXeAALvAAF3gAC7wABd4AAu8AAXeAALvAA"
        "F3gAC7wABd4AAu8AAXeAALvAAF3gP//Z"
    ),
    "JPEGLSLossless": (
        "/9j/9wALEAAQABABAREA//gADQH//wASAEMBFABA/9oACAEBAAAAAPy7sAIAgCAQCAQDqAHxAHSAOEAwgGEAwgGEBhAYQGEBhAYQGEBh"
        "Af/ZAA=="
    ),
    "JPEG2000Lossless": (
        "/0//UQApAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1IADAAAAAEAAwQEAAH/XAANQICIiJCIiJCIiJD/ZAAq"
        "AAFDcmVhdGVkIGJ5IEdEQ00vT3BlbkpQRUcgdmVyc2lvbiAyLjMuMP+QAAoAAAAAAEAAAf+T3/iQUAj33utHP67AUa/AB9oKAAgTXspd"
        "wA/AJBcsroDzjB330cAH2hAAIW4H8Q74oD//2Q=="
    ),
    "HTJ2KLossless": (
        "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQ"
        "kJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAF8AAf+TwAAmH/kFB3QAAMAAEwA6/gOHdADAABVAfbAP/NAPAOGU"
        "AMAAFpj90R/+/v3RH/7hHwBcnCUD0ngAwAAtQP3vf/97v/993/9+vgU5TlODAnkA/9k="
    ),
}
"""Keyword of a transfer syntax in pydicom to one compressed frame of the picture, in base64."""


def sample(syntax: str) -> bytes:
    """A DICOM file of the picture.

    Args:
        syntax: Keyword of the transfer syntax: one of `FRAMES`, `ExplicitVRLittleEndian` or `RLELossless`.
    """
    from pydicom import uid
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    allocated, stored = {"JPEGBaseline8Bit": (8, 8), "HTJ2KLossless": (16, 16)}.get(syntax, (16, 12))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3")
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, "1.2.3"
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
    dataset.PixelData = _picture(np.uint16, 4095).tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax in FRAMES:
        dataset.file_meta.TransferSyntaxUID = getattr(uid, syntax)
        dataset.PixelData = encapsulate([base64.b64decode(FRAMES[syntax])])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif syntax == "RLELossless":
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def plain_samples() -> dict[str, Callable[[], bytes]]:
    """Functions that make the picture as PNG of 8 and 16 bits, and as JPEG."""
    return {
        "PNG": lambda: _encoded(_picture(np.uint8, 255), "PNG"),
        "PNG 16-bit": lambda: _encoded(_picture(np.uint16, 65535), "PNG"),
        "JPEG": lambda: base64.b64decode(FRAMES["JPEGBaseline8Bit"]),
    }


def is_picture(pixels: np.ndarray) -> bool:
    """Whether pixels (16, 16) uint8 are the picture, up to the error of a lossy encoding."""
    half = SIDE // 2
    return bool(pixels.shape == (SIDE, SIDE) and pixels[:, :half].max() < 64 and pixels[:, half:].min() > 191)


def _picture(kind: type, white: int) -> np.ndarray:
    return np.repeat(np.array([0, white], kind), SIDE // 2)[None].repeat(SIDE, axis=0)


def _encoded(pixels: np.ndarray, format: str) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format)
    return content.getvalue()
