"""Serving an ensemble folder: the scores of `predict`, and maps of all members."""

import numpy as np
import pytest

from tests.dataset.small_dataset import SPACE
from tests.model.small_run import study_file, write_evaluated_ensemble
from trcgl.model.ensemble import load_ensemble
from trcgl.model.ensemble_maps import mean_maps
from trcgl.model.maps import maps
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict
from trcgl.serve.engine import open_network
from trcgl.serve.options import ServeOptions
from trcgl.serve.schemas import ServedModel
from trcgl.serve.service import Service
from trcgl.serve.studies import Study
from trcgl.serve.study_answer import StudyScorer


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    return write_evaluated_ensemble(tmp_path_factory.mktemp("ensemble"), fusion="learned", tta=("flip",))


@pytest.fixture(scope="module")
def network(ensemble):
    return open_network(ensemble)


def test_the_model_card_of_the_server_names_the_combination(network):
    about = network.about | {"limits": {"bytes": 1, "pixels": 1, "seconds": 1.0}, "samples": []}
    served = ServedModel.model_validate(about)
    assert served.ensemble.weights == [0.5, 0.5] and served.ensemble.fusion == "learned"
    assert served.head == "trcgl + linear" and served.map_kind == "grad_cam" and served.calibrated


def test_a_study_is_answered_as_predict_scores_it(network, ensemble, tmp_path):
    pytest.importorskip("pydicom", reason="needs the extra `dicom`")
    files = {}
    for image in range(2):
        path = tmp_path / f"{image}.dcm"
        path.write_bytes(study_file(image, "7"))
        files[path.name] = path
    expected = predict(ensemble, [tmp_path], PredictOptions(workers=1)).to_dict()["studies"][0]["scores"]
    service = Service(network, ServeOptions(workers=1))
    try:
        answer = StudyScorer(service, network, maps=0)(Study("7", files))
    finally:
        service.decoders.close()
    (study,) = answer.scores["studies"]
    for finding in SPACE.findings:
        assert study["scores"][finding] == pytest.approx(expected[finding], abs=1e-5)


def test_maps_are_the_weighted_mean_of_the_members(ensemble):
    models = load_ensemble([ensemble])
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32), dtype=np.uint8)
    mean = mean_maps(models, images, "grad_cam")
    each = np.mean([maps(member, images, "grad_cam") for member in models.members], axis=0)
    largest = np.maximum(each.max((2, 3), keepdims=True), 1e-12)
    np.testing.assert_allclose(mean, each / largest, atol=1e-5)
