"""Parameters and answers of the interface, as GET /openapi.json describes them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trcgl.serve.problem import Code

GroupName = Literal["head", "medium", "tail"]
MapKind = Literal["attention", "grad_cam"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PredictParameters(_Strict):
    """Parameters of POST /v1/predict."""

    maps: bool = Field(default=False, description="add where the network looked for each finding")


class ServedFinding(_Strict):
    """A finding that the model knows."""

    name: str
    group: GroupName | None = Field(description="head, medium or tail, by frequency in training")
    threshold: float | None = Field(description="threshold fitted on val; null before `trcgl evaluate`")


class Limits(_Strict):
    """The largest upload."""

    bytes: int
    pixels: int
    seconds: float = Field(description="longest time for decoding")


class SampleEntry(_Strict):
    """A rendered phantom to try the model with."""

    id: str
    title: str
    labels: list[str]


class ServedEnsemble(_Strict):
    """How an ensemble combines scores."""

    weights: list[float] = Field(description="weight of each model in the mean of their probabilities")
    tta: list[str] = Field(description="copies that are averaged with the radiograph: flip, or a magnification")
    fusion: Literal["none", "mean", "max", "learned"] = Field(description="how the images of a study are fused")
    temperature: float


class ServedModel(_Strict):
    """Answer of GET /v1/model."""

    schema_: Literal["trcgl.served-model/1"] = Field(alias="schema")
    research_use: str
    trcgl: str = Field(description="version of trcgl")
    name: str = Field(description="name of the recipe; of an ensemble, all names joined by ' + '")
    weights_sha256: str
    image_size: int = Field(description="side of the square input of the network, in pixels; of several, the largest")
    stored_size: int = Field(description="side of the square that an upload is fitted to before resizing, in pixels")
    fit: Literal["letterbox", "squash"]
    head: str
    calibrated: bool
    temperature: float | None
    map_kind: MapKind
    license: str = Field(description="license of the initial weights")
    phantom: bool = Field(description="whether the model was trained on phantoms")
    ensemble: ServedEnsemble | None = Field(default=None, description="how scores are combined; null for one model")
    findings: list[ServedFinding]
    limits: Limits
    samples: list[SampleEntry]


class ModelIdentity(_Strict):
    """Which model gave the scores."""

    name: str
    weights_sha256: str


class ImageEntry(_Strict):
    """The uploaded file."""

    width: int
    height: int
    format: Literal["png", "jpeg", "dicom"]
    sha256: str


class Identifiers(_Strict):
    """Elements of a DICOM file that identify its examination; null where the file has none."""

    study_instance_uid: str | None
    series_instance_uid: str | None
    sop_instance_uid: str | None
    accession_number: str | None


class PredictedFinding(_Strict):
    """One finding of one radiograph."""

    name: str
    group: GroupName | None
    score: float = Field(ge=0, le=1, description="probability; calibrated if `calibrated` is true")
    threshold: float | None
    called: bool | None = Field(description="whether the score reaches the threshold")
    map: str | None = Field(description="PNG data URI with transparency, in the proportions of `picture`")


class Prediction(_Strict):
    """Answer of POST /v1/predict; the findings with the highest score come first."""

    schema_: Literal["trcgl.prediction/1"] = Field(alias="schema")
    research_use: str
    model: ModelIdentity
    image: ImageEntry
    identifiers: Identifiers | None = Field(description="of a DICOM file, if the server runs with --identifiers")
    calibrated: bool
    findings: list[PredictedFinding]
    map_kind: MapKind | None
    picture: str | None = Field(description="PNG data URI of the radiograph, 8-bit gray; null without maps")
    seconds: float = Field(description="time from the end of the upload to the answer")


class Health(_Strict):
    """Answer of GET /healthz."""

    status: Literal["ok"]


class ErrorEntry(_Strict):
    """What is wrong and what to do."""

    code: Code
    message: str


class ErrorAnswer(_Strict):
    """Every answer that reports an error."""

    error: ErrorEntry
