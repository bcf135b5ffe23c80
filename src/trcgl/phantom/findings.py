"""The thirty findings of PadChest-30 by name: functions that change the anatomy or render the finding."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trcgl.phantom import findings_devices, findings_lung, findings_mediastinum, findings_pleura, findings_shape
from trcgl.phantom.anatomy import Anatomy
from trcgl.phantom.chest import Change, Chest, Mask


@dataclass(frozen=True)
class Finding:
    """Functions of a finding."""

    reshape: Callable[[Anatomy, np.random.Generator, float], Anatomy] | None = None  # extent; before the chest is made
    render: Callable[[Chest, np.random.Generator], Change] | None = None
    where: Callable[[Chest, Chest], Mask] | None = None  # also of the chest before; if only the anatomy changes


FINDINGS: dict[str, Finding] = {
    "Normal": Finding(),
    "cardiomegaly": Finding(findings_shape.cardiomegaly, where=lambda chest, before: chest.heart > 0.5),
    "Support Devices": Finding(render=findings_devices.support_devices),
    "aortic elongation": Finding(findings_shape.aortic_elongation, where=findings_shape.where_aorta),
    "pleural effusion": Finding(render=findings_pleura.pleural_effusion),
    "atelectasis": Finding(render=findings_lung.atelectasis),
    "interstitial pattern": Finding(render=findings_lung.interstitial_pattern),
    "central venous catheter": Finding(render=findings_devices.central_venous_catheter),
    "alveolar pattern": Finding(render=findings_lung.alveolar_pattern),
    "Kyphosis": Finding(findings_shape.kyphosis, where=findings_shape.where_bent),
    "pleural thickening": Finding(render=findings_pleura.pleural_thickening),
    "vertebral degenerative changes": Finding(render=findings_mediastinum.vertebral_degenerative_changes),
    "fracture": Finding(render=findings_mediastinum.fracture),
    "vascular hilar enlargement": Finding(findings_shape.vascular_hilar_enlargement, where=findings_shape.where_hila),
    "Nodule": Finding(render=findings_lung.nodule),
    "sternotomy": Finding(render=findings_devices.sternotomy),
    "bronchiectasis": Finding(render=findings_lung.bronchiectasis),
    "aortic atheromatosis": Finding(render=findings_mediastinum.aortic_atheromatosis),
    "hemidiaphragm elevation": Finding(findings_shape.hemidiaphragm_elevation, where=findings_shape.where_raised),
    "Hernia": Finding(render=findings_mediastinum.hernia),
    "Emphysema": Finding(findings_shape.emphysematous, render=findings_lung.emphysema),
    "Mass": Finding(render=findings_lung.mass),
    "hypoexpansion": Finding(findings_shape.hypoexpansion, where=findings_shape.where_raised),
    "calcified densities": Finding(render=findings_lung.calcified_densities),
    "hyperinflated lung": Finding(findings_shape.hyperinflated_lung, where=lambda chest, before: chest.open_lung > 0.5),
    "Pneumothorax": Finding(render=findings_pleura.pneumothorax),
    "azygos lobe": Finding(render=findings_lung.azygos_lobe),
    "Subcutaneous Emphysema": Finding(render=findings_pleura.subcutaneous_emphysema),
    "pneumoperitoneo": Finding(render=findings_pleura.pneumoperitoneo),
    "Hydropneumothorax": Finding(render=findings_pleura.hydropneumothorax),
}
"""Name to functions, in the order of PadChest-30."""
