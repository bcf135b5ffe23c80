"""What the interface is asked and answers, as GET /openapi.json describes it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trcgl.serve.problem import Code

GroupName = Literal["head", "medium", "tail"]
MapKind = Literal["attention", "grad_cam"]


class Asked(BaseModel):
    """Parameters of POST /v1/predict."""

    model_config = ConfigDict(extra="forbid")
    maps: bool = False


class ServedFinding(BaseModel):
    """A finding that the model knows."""

    name: str
    group: GroupName | None = Field(description="by prevalence in training")
    threshold: float | None = Field(description="fitted on val; null before `trcgl evaluate`")


class Limits(BaseModel):
    """The largest upload."""

    bytes: int
    pixels: int
    seconds: float = Field(description="what decoding may take")


class SampleEntry(BaseModel):
    """A drawn phantom to try the model with."""

    id: str
    title: str
    labels: list[str]


class ServedModel(BaseModel):
    """Answer of GET /v1/model."""

    schema_: Literal["trcgl.served-model/1"] = Field(alias="schema")
    research_use: str
    trcgl: str = Field(description="version of the software")
    name: str = Field(description="of the recipe")
    weights_sha256: str
    image_size: int = Field(description="side of the square that the network sees, in pixels")
    stored_size: int = Field(
        description="side of the square, in pixels, that an upload is fitted to before it is resized for the network"
    )
    fit: Literal["letterbox", "squash"]
    head: str
    calibrated: bool
    temperature: float | None
    map_kind: MapKind
    license: str = Field(description="of the initial weights")
    phantom: bool = Field(description="whether the model was trained on phantoms")
    findings: list[ServedFinding]
    limits: Limits
    samples: list[SampleEntry]


class ModelIdentity(BaseModel):
    """Which model gave the scores."""

    name: str
    weights_sha256: str


class ImageEntry(BaseModel):
    """What was sent."""

    width: int
    height: int
    format: Literal["png", "jpeg", "dicom"]
    sha256: str


class PredictedFinding(BaseModel):
    """One finding of one radiograph."""

    name: str
    group: GroupName | None
    score: float = Field(ge=0, le=1, description="probability, calibrated where `calibrated` says so")
    threshold: float | None
    called: bool | None = Field(description="whether the score reaches the threshold")
    map: str | None = Field(description="PNG data URI with transparency, in the proportions of `picture`")


class Prediction(BaseModel):
    """Answer of POST /v1/predict; the findings with the highest score come first."""

    schema_: Literal["trcgl.prediction/1"] = Field(alias="schema")
    research_use: str
    model: ModelIdentity
    image: ImageEntry
    calibrated: bool
    findings: list[PredictedFinding]
    map_kind: MapKind | None
    picture: str | None = Field(description="PNG data URI of the radiograph, 8-bit gray; null without maps")
    seconds: float = Field(description="from the end of the upload to the answer")


class Health(BaseModel):
    """Answer of GET /healthz."""

    status: Literal["ok"]


class ErrorEntry(BaseModel):
    """What is wrong and what to do."""

    code: Code
    message: str


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    error: ErrorEntry
