"""Patients of the phantoms: one to three radiographs each, with ages and sexes that fit the findings."""

import numpy as np
from jaxtyping import Bool, Float, Int

from trcgl.phantom.findings import FINDINGS

RADIOGRAPHS = (0.70, 0.20, 0.10)
"""Shares of patients with one, two and three radiographs."""
AGE_SPREAD = 14.0
"""Standard deviation in years around the mean of a patient's findings."""
AGES = {"Normal": 47, "Pneumothorax": 46, "azygos lobe": 54, "fracture": 60, "hyperinflated lung": 62, "Mass": 66}
AGES |= {"sternotomy": 69, "cardiomegaly": 70, "vertebral degenerative changes": 70, "Hernia": 73, "Kyphosis": 75}
AGES |= {"aortic elongation": 74, "aortic atheromatosis": 76}
"""Mean ages of findings other than `USUAL_AGE`."""
USUAL_AGE = 63
MEN = {"Pneumothorax": 0.70, "Emphysema": 0.80, "sternotomy": 0.65, "Hernia": 0.35, "Kyphosis": 0.30}
"""Shares of men other than a half."""


def group_into_patients(label_set: Int[np.ndarray, " images"], rng: np.random.Generator) -> Int[np.ndarray, " images"]:
    """Patient number of every image; in half of the cases two images of a patient have the same label set."""
    images = len(label_set)
    patient = np.empty(images, np.int64)
    # Half of the images are assigned in the order of their label sets, so that neighbors are alike; half in any order.
    alike = rng.random(images) < 0.5
    order = np.concatenate([np.flatnonzero(alike)[np.argsort(label_set[alike], kind="stable")], np.flatnonzero(~alike)])
    counts = rng.choice(len(RADIOGRAPHS), images, p=RADIOGRAPHS) + 1
    patient[order] = np.repeat(np.arange(images), counts)[:images]
    return patient


def describe_patients(
    patient: Int[np.ndarray, " images"], members: Bool[np.ndarray, "images findings"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, " images"], list[str]]:
    """Random age and sex of the patient of every image, given the findings of all images of the patient."""
    people = int(patient.max()) + 1
    findings = np.zeros((people, members.shape[1]))
    np.add.at(findings, patient, members)
    share = findings / np.maximum(findings.sum(1, keepdims=True), 1)
    age = share @ np.array([AGES.get(name, USUAL_AGE) for name in FINDINGS], float)
    men = share @ np.array([MEN.get(name, 0.5) for name in FINDINGS])
    age = np.clip(np.round(age + AGE_SPREAD * rng.standard_normal(people)), 18, 97)
    sex = np.where(rng.random(people) < men, "M", "F")
    return age[patient], sex[patient].tolist()
