"""What a model of chest radiographs must not score unasked: raw detector images, blank pictures, other body parts."""

from collections.abc import Set
from typing import TYPE_CHECKING

from trcgl.core.errors import NotAccepted, Reason
from trcgl.imaging.dicom_elements import element, said, text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"  # SOP class Digital X-Ray Image Storage - For Processing
_RADIOGRAPHY = ("CR", "DX", "DR", "RG")  # DR is no defined term of PS3.3 C.7.3.1.1.1, but archives use it
_UNSAID_MODALITY = ("", "OT")
_UNSAID_BODY_PART = ("", "UNKNOWN", "OTHER", "NONE", "DEFAULT", "UNSPECIFIED", "WHOLEBODY")
_CHEST = (
    *("CHEST", "THORA", "THORX", "TORAX", "TORACE", "LUNG", "PULM", "POUMON", "PECHO", "BRUST", "CXR", "HEART"),
    *("CARDIAC", "RIB", "STERNUM", "MEDIASTIN", "BRONCH", "TRUNK", "TORSO"),
)
"""Parts of names of the chest in several languages."""
_SPINE = ("SPINE", "SPINAL", "WIRBEL", "COLUM", "RACHIS", "VERTEB")  # the thoracic spine is not the chest


def check_header(dataset: "Dataset", name: str, accept: Set[str]) -> None:
    """Refuse an image whose header says that it is no chest radiograph for display.

    Raises:
        NotAccepted: for a reason that is not in `accept`.
    """
    intent = text(dataset, "PresentationIntentType").upper()
    if "for-processing" not in accept:
        meant = "It holds raw detector values, not the picture that a radiologist sees. Take the image for presentation"
        if intent == "FOR PROCESSING":
            raise _refused(name, said(dataset, "PresentationIntentType"), meant, "for-processing")
        if not intent and text(dataset, "SOPClassUID") == _FOR_PROCESSING:
            raise _refused(name, f"{element('SOPClassUID')} is For Processing", meant, "for-processing")
    modality = text(dataset, "Modality").upper()
    if "modality" not in accept and modality not in (*_RADIOGRAPHY, *_UNSAID_MODALITY):
        meant = f"Radiographs have {', '.join(_RADIOGRAPHY)}. Leave it out"
        raise _refused(name, said(dataset, "Modality"), meant, "modality")
    part = "".join(text(dataset, "BodyPartExamined").upper().replace("Ó", "O").split())
    if "body-part" not in accept and part not in _UNSAID_BODY_PART and not _is_chest(part):
        raise _refused(name, said(dataset, "BodyPartExamined"), "It is not the chest. Leave it out", "body-part")


def blank(name: str, why: str) -> NotAccepted:
    """The error for a picture without any contrast."""
    return _refused(name, why, "Leave it out", "blank")


def _is_chest(part: str) -> bool:
    return any(known in part for known in _CHEST) and not any(known in part for known in _SPINE)


def _refused(name: str, found: str, advice: str, reason: Reason) -> NotAccepted:
    return NotAccepted(f"{name}: {found}. {advice}, or accept it with `--accept {reason}`.", reason)
