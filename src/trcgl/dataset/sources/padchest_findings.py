"""The 30 findings of PadChest (the classes of CXR-LT 2026) and the raw labels that mean them.

The archive's table has leaf labels only, so a parent is the union of its children. Whole labels are compared.
"""

from trcgl.dataset.labels import Group, LabelSpace

RAW: dict[str, tuple[str, ...]] = {
    "Normal": ("normal",),
    "cardiomegaly": ("cardiomegaly",),
    "Support Devices": (
        "artificial aortic heart valve",
        "artificial heart valve",
        "artificial mitral heart valve",
        "catheter",
        "central venous catheter",
        "central venous catheter via jugular vein",
        "central venous catheter via subclavian vein",
        "central venous catheter via umbilical vein",
        "chest drain tube",
        "double j stent",
        "dual chamber device",
        "electrical device",
        "endotracheal tube",
        "gastrostomy tube",
        "nephrostomy tube",
        "nsg tube",
        "pacemaker",
        "reservoir central venous catheter",
        "single chamber device",
        "tracheostomy tube",
        "ventriculoperitoneal drain tube",
    ),
    "aortic elongation": (
        "aortic elongation",
        "ascendent aortic elongation",
        "descendent aortic elongation",
        "supra aortic elongation",
    ),
    "pleural effusion": ("loculated fissural effusion", "loculated pleural effusion", "pleural effusion"),
    "atelectasis": (
        "atelectasis",
        "atelectasis basal",
        "laminar atelectasis",
        "lobar atelectasis",
        "round atelectasis",
        "segmental atelectasis",
        "total atelectasis",
    ),
    "interstitial pattern": (
        "interstitial pattern",
        "reticular interstitial pattern",
        "reticulonodular interstitial pattern",
    ),
    "central venous catheter": (
        "central venous catheter",
        "central venous catheter via jugular vein",
        "central venous catheter via subclavian vein",
        "central venous catheter via umbilical vein",
        "reservoir central venous catheter",
    ),
    "alveolar pattern": ("alveolar pattern",),
    "Kyphosis": ("kyphosis",),
    "pleural thickening": ("apical pleural thickening", "calcified pleural thickening", "pleural thickening"),
    "vertebral degenerative changes": ("vertebral degenerative changes",),
    "fracture": (
        "callus rib fracture",
        "clavicle fracture",
        "fracture",
        "humeral fracture",
        "rib fracture",
        "vertebral fracture",
    ),
    "vascular hilar enlargement": ("vascular hilar enlargement",),
    "Nodule": ("multiple nodules", "nodule"),
    "sternotomy": ("sternotomy",),
    "bronchiectasis": ("bronchiectasis",),
    "aortic atheromatosis": ("aortic atheromatosis",),
    "hemidiaphragm elevation": ("hemidiaphragm elevation",),
    "Hernia": ("hiatal hernia",),
    "Emphysema": ("emphysema",),
    "Mass": ("breast mass", "mass", "mediastinal mass", "pleural mass", "pulmonary mass", "soft tissue mass"),
    "hypoexpansion": ("hypoexpansion", "hypoexpansion basal"),
    "calcified densities": ("calcified densities",),
    "hyperinflated lung": ("hyperinflated lung",),
    "Pneumothorax": ("pneumothorax",),
    "azygos lobe": ("azygos lobe",),
    "Subcutaneous Emphysema": ("subcutaneous emphysema",),
    "pneumoperitoneo": ("pneumoperitoneo",),
    "Hydropneumothorax": ("hydropneumothorax",),
}
"""Finding to raw labels, in the order of falling frequency."""

HEAD = ("Normal", "cardiomegaly", "Support Devices")
"""More than 10 % of the images with any of the 30."""
TAIL = (
    "calcified densities",
    "hyperinflated lung",
    "Pneumothorax",
    "azygos lobe",
    "Subcutaneous Emphysema",
    "pneumoperitoneo",
    "Hydropneumothorax",
)
"""Less than 1 %."""


def _group(finding: str) -> Group:
    return "head" if finding in HEAD else "tail" if finding in TAIL else "medium"


SPACE = LabelSpace(
    name="padchest30",
    findings=tuple(RAW),
    groups={finding: _group(finding) for finding in RAW},
    group_rule="name",
    normal="Normal",
    normal_in_means=True,
    raw=RAW,
)
"""Groups are fixed by name, so that they do not depend on a split."""
