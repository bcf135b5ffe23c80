"""The routes of the HTTP interface."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from trcgl import __version__
from trcgl.core.notice import RESEARCH_USE
from trcgl.serve import schemas
from trcgl.serve.guards import Access, Guard
from trcgl.serve.page_files import PAGE, page_files
from trcgl.serve.problem import Problem, of_status
from trcgl.serve.samples import SAMPLES, sample_png
from trcgl.serve.service import Service

if TYPE_CHECKING:
    from trcgl.serve.node import Node

_FILE = {"type": "string", "format": "binary", "description": "PNG, JPEG or DICOM"}
_FORM = {"schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}}}
_UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}}
_PNG: dict[str, Any] = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
_REASONS = {
    400: "the multipart field `file` does not hold exactly one file, or a parameter is unknown",
    401: "the token is missing or wrong",
    403: "the request comes from a page of another site, or names another host",
    404: "no such address",
    408: "the upload took too long",
    413: "too many bytes or pixels",
    415: "the file is not a PNG, JPEG or DICOM file",
    422: "the file cannot be decoded",
    503: "the server is busy; `Retry-After` gives the seconds to wait",
    504: "decoding took too long",
}


def create_app(service: Service, access: Access, node: "Node | None" = None) -> Guard:
    """The application of one model; `service` and `node` are closed with it."""
    app = FastAPI(
        title="trcgl",
        version=__version__,
        description=f"Findings in chest radiographs. {RESEARCH_USE}",
        docs_url=None,  # FastAPI's pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda _: _life(service, node),
    )
    _add_page(app)
    _add_interface(app, service)
    for error in (Problem, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error, _refused)
    return Guard(app, access, service.metrics)


@asynccontextmanager
async def _life(service: Service, node: "Node | None") -> AsyncIterator[None]:
    work = asyncio.create_task(service.batcher.work())
    try:
        yield
    finally:
        work.cancel()
        if node is not None:  # it uses the decoders and the thread of the network
            await asyncio.to_thread(node.close)
        await asyncio.to_thread(service.decoders.close)
        service.batcher.close()


def _add_page(app: FastAPI) -> None:
    files = page_files()

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(files["index.html"], media_type=PAGE["index.html"])

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> Response:
        if name not in files:
            raise of_status(404)
        return Response(files[name], media_type=PAGE[name])


def _add_interface(app: FastAPI, service: Service) -> None:
    @app.get("/v1/model", response_model=schemas.ServedModel, responses=_errors(401, 403))
    async def model() -> Response:
        """The model: findings, thresholds, limits, and sample phantoms."""
        return JSONResponse(service.card)

    @app.get("/v1/samples/{number}", response_class=Response, responses=_errors(403, 404) | {200: _PNG})
    async def sample(number: str) -> Response:
        """A rendered phantom as PNG; no patient."""
        if number not in SAMPLES:
            raise of_status(404)
        return Response(await asyncio.to_thread(sample_png, number), media_type="image/png")

    wrong = _errors(400, 401, 403, 408, 413, 415, 422, 503, 504)

    @app.post("/v1/predict", response_model=schemas.Prediction, responses=wrong, openapi_extra=_UPLOAD)
    async def predict(request: Request, parameters: Annotated[schemas.PredictParameters, Query()]) -> Response:
        """Scores of one radiograph, the highest first; with `maps`, where the network looked for each finding."""
        async with service.uploads.receive(request) as content:
            return JSONResponse(await service.predict(content, maps=parameters.maps))

    @app.get("/healthz", response_model=schemas.Health)
    async def health() -> Response:
        """Whether the server answers."""
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", response_class=Response, responses=_errors(401, 403))
    async def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.ErrorAnswer, "description": _REASONS[status]} for status in statuses}


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return error.response()
    status = 400 if isinstance(error, RequestValidationError) else getattr(error, "status_code", 500)
    response = of_status(status).response()
    response.headers.update(getattr(error, "headers", None) or {})
    return response
