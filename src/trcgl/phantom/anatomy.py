"""Measures of a patient's thorax, and of the exposure, which differs between radiographs.

Lengths are in sides of the image (about 40 cm); `canvas` explains the coordinates.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trcgl.phantom.canvas import Pose

Sex = Literal["F", "M"]


@dataclass(frozen=True)
class Anatomy:
    """Measures of a patient; anatomical findings change them.

    Pairs are (patient's right, patient's left), which is the left and the right of the picture.
    """

    age: float
    sex: Sex
    chest: float = 0.40  # half-width of the rib cage inside, where it is widest
    apex: float = 0.125  # height of the lung apices
    dome: tuple[float, float] = (0.735, 0.755)  # height of the diaphragm domes
    curve: tuple[float, float] = (0.085, 0.085)  # how far the diaphragm falls from dome to costophrenic angle
    heart: tuple[float, float] = (0.105, 0.225)  # how far the heart reaches to each side of the midline
    heart_height: float = 1.0  # height of the heart, 1 for most
    knob: float = 0.042  # radius of the aortic knob
    unfolding: float = 0.0  # how far ascending and descending aorta bulge into the lungs
    hilum: tuple[float, float] = (1.0, 1.0)  # size of the hila, 1 for most
    vessels: float = 1.0  # strength of the pulmonary vessels
    air: float = 1.0  # how much air the lungs hold per depth
    wall: float = 0.055  # thickness of the chest wall at the sides
    bulk: float = 1.0  # thickness of the body from front to back
    breast: float = 0.0  # size of the breasts; 0 for men
    bone: float = 1.0  # density of bone
    rib_spacing: float = 0.072
    rib_slope: float = 0.78  # how far the posterior ribs fall to the side
    clavicle: float = 0.165  # height of the inner ends of the clavicles
    scoliosis: float = 0.0  # sideways bend of the spine
    chin: float = 0.0  # how far chin and neck hang into the picture
    vertebra: float = 0.06  # height of a vertebra with its disc
    bubble: float = 0.05  # size of the gastric air bubble


@dataclass(frozen=True)
class Exposure:
    """Settings of a single radiograph."""

    pose: Pose
    turn: float  # rotation about the long axis, positive to the patient's left; shifts the mediastinum, shades a side
    expiration: float  # rise of the diaphragm from its height at full inspiration
    dose: float  # darkness of the film
    contrast: float  # steepness of the film curve
    noise: float
    bedside: bool  # lying patient (AP): higher diaphragm, larger heart, scapulae over the lungs
    marker: bool
    shutter: tuple[float, float, float, float]  # black border of the collimator on the left, right, top and bottom


def patient(rng: np.random.Generator, age: float, sex: Sex) -> Anatomy:
    """A random healthy thorax for an age and sex."""
    old = float(np.clip((age - 50) / 40, -1, 1))
    build = float(np.clip(rng.normal(), -2, 2))
    male = sex == "M"
    chest = 0.385 + 0.012 * male + 0.008 * build + rng.normal(0, 0.008)
    right = 0.745 + rng.normal(0, 0.024) + 0.006 * build
    left = right + 0.018 + rng.normal(0, 0.008)
    ratio = np.clip(rng.normal(0.425 + 0.02 * old + 0.008 * build, 0.026), 0.35, 0.495)
    share = rng.uniform(0.30, 0.36)
    width = 2 * chest * ratio
    return Anatomy(
        age=age,
        sex=sex,
        chest=chest,
        apex=0.125 + rng.normal(0, 0.01),
        dome=(right, left),
        curve=(rng.uniform(0.06, 0.10), rng.uniform(0.06, 0.10)),
        heart=(width * share, width * (1 - share)),
        heart_height=rng.uniform(0.94, 1.06),
        knob=0.038 + 0.005 * old + rng.normal(0, 0.003),
        unfolding=max(0.0, 0.006 * old + rng.normal(0, 0.004)),
        hilum=(rng.uniform(0.85, 1.12), rng.uniform(0.85, 1.12)),
        vessels=rng.uniform(0.85, 1.15),
        air=1 + rng.normal(0, 0.035),
        wall=0.066 + 0.016 * build + rng.uniform(0, 0.01),
        bulk=1 + 0.07 * build + 0.04 * male,
        breast=0.0 if male else float(np.clip(rng.normal(0.8 + 0.25 * build, 0.3), 0.2, 1.5)),
        bone=1 - 0.15 * max(old, 0) * (1.3 - 0.6 * male) + rng.normal(0, 0.05),
        rib_spacing=0.072 + rng.normal(0, 0.002),
        rib_slope=0.78 + rng.normal(0, 0.10) + 0.08 * old,
        clavicle=0.165 + rng.normal(0, 0.012),
        scoliosis=rng.normal(0, 0.008) * (1 + 0.7 * max(old, 0)),
        chin=max(0.0, rng.normal(0, 0.25)),
        vertebra=0.060 + rng.normal(0, 0.002),
        bubble=rng.uniform(0, 0.06),
    )


def exposure(rng: np.random.Generator, *, noise: float) -> Exposure:
    """A random exposure; `noise` multiplies the quantum noise."""
    bedside = rng.random() < 0.15
    sloppy = 1.6 if bedside else 1.0
    shutter = np.where(rng.random(4) < 0.15, rng.uniform(0.005, 0.03, 4), 0.0)
    return Exposure(
        pose=Pose(
            tilt=float(np.radians(rng.normal(0, 1.8 * sloppy))),
            zoom=float(np.clip(rng.normal(1.0, 0.035), 0.9, 1.1)),
            shift=(float(rng.normal(0, 0.015 * sloppy)), float(rng.normal(0.0, 0.015 * sloppy))),
        ),
        turn=float(rng.normal(0, 0.35 * sloppy)),
        expiration=float(rng.normal(0, 0.013)) + 0.02 * bedside,
        dose=float(np.clip(rng.normal(1.0, 0.08), 0.75, 1.25)),
        contrast=float(np.clip(rng.normal(1.0, 0.07), 0.8, 1.2)),
        noise=float(noise * rng.uniform(0.7, 1.5)),
        bedside=bool(bedside),
        marker=bool(rng.random() < 0.6),
        shutter=(float(shutter[0]), float(shutter[1]), float(shutter[2]), float(shutter[3])),
    )


def breathed(anatomy: Anatomy, taken: Exposure) -> Anatomy:
    """The thorax at the moment of the exposure."""
    magnified = 1.07 if taken.bedside else 1.0
    return replace(
        anatomy,
        dome=(anatomy.dome[0] - taken.expiration, anatomy.dome[1] - taken.expiration),
        heart=(anatomy.heart[0] * magnified, anatomy.heart[1] * magnified),
        clavicle=anatomy.clavicle - 0.02 * taken.bedside,
    )
