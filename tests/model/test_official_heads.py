"""Heads equal the code that their authors released, with the same weights, and start and train as that code does."""

import math

import numpy as np
import pytest
import torch

from tests.official_code import official
from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads import HEADS
from trcgl.model.label_graph import Labels

NUMBERS = official("heads")


def weights_of(case, names):
    """The weights of the authors' class by the names of ours; `names` are pairs of their text and ours."""
    rng, state = np.random.default_rng(case["seed"]), {}
    for name, shape in case["shapes"].items():
        value = rng.normal(0, shape[-1] ** -0.5, shape)
        if len(shape) == 1 and "norm" in name and name.endswith("weight"):
            value += 1
        for theirs, ours in names:
            name = name.replace(theirs, ours)
        state[name] = torch.from_numpy(value).float()
    return state


def feature_of(case):
    given = case["feature"]
    return torch.from_numpy(np.random.default_rng(given["seed"]).normal(0, 1, given["shape"])).float()


def cases(name):
    return pytest.mark.parametrize("case", NUMBERS[name]["cases"], ids=lambda case: str(case["arguments"]))


def build(name, findings, width=12, **settings):
    return HEADS[name](width, ModelRecipe(head=name, **settings), Labels(torch.eye(findings))).eval()


def close(logits, case):
    torch.testing.assert_close(logits, torch.tensor(case["logits"]), rtol=1e-5, atol=1e-5)


def trains_alike(head, case):
    """With dropout, the first image's logits have the mean and the standard deviation of the authors' code."""
    torch.manual_seed(0)
    expected, images = case["training"], feature_of(case)[:1]
    with torch.no_grad():
        passes = head.train()(images.repeat(4000, 1, 1, 1)).logits
    mean, sd = torch.tensor(expected["mean"]), torch.tensor(expected["sd"])
    error = sd * (1 / len(passes) + 1 / expected["passes"]) ** 0.5
    assert ((passes.mean(0) - mean).abs() < 4 * error).all()
    torch.testing.assert_close(passes.std(0), sd, rtol=0.05, atol=0)


@cases("csra")
def test_csra_is_that_of_the_authors_code(case):
    arguments = case["arguments"]
    head = build("csra", 5, attention_heads=arguments["num_heads"], csra_gate=arguments["lam"])
    state = weights_of(case, [("multi_head", "classifiers"), (".head.", ".")])
    state = {name: value.squeeze() for name, value in state.items()}
    head.load_state_dict(state | {"attention_gate": torch.tensor(arguments["lam"])})
    close(head(feature_of(case)).logits, case)


def test_csra_has_by_default_the_heads_and_the_weight_of_the_authors_on_coco():
    recipe = ModelRecipe()
    assert (recipe.attention_heads, recipe.csra_gate) == (4, 0.5)  # their README, validation on COCO


QUERY2LABEL = [
    ("transformer.encoder.layers", "encoder"),
    ("transformer.decoder.layers", "read"),
    ("transformer.decoder.norm", "norm"),
    ("self_attn", "attend"),
    ("multihead_attn", "attend"),
    ("linear", "feed.fc"),
    ("input_proj", "places.embed"),
    ("query_embed.weight", "queries.embeddings"),
    ("fc.W", "classifier.weight"),
    ("fc.b", "classifier.bias"),
]


def query2label(case):
    arguments = case["arguments"]
    head = build(
        "query2label",
        arguments["num_class"],
        label_embedding=arguments["hidden_dim"],
        attention_heads=arguments["nheads"],
        encoder_blocks=arguments["enc_layers"],
        attention_blocks=arguments["dec_layers"],
        decoder_dropout=arguments["dropout"],
    )
    state = {}
    for name, value in weights_of(case, QUERY2LABEL).items():
        first, second = ("norm1", "norm2") if name.startswith("encoder") else ("norm2", "norm3")
        name = name.replace(first, "norm_read").replace(second, "norm_fed")
        state[name] = value.reshape(head.state_dict()[name].shape)
    head.load_state_dict(state)
    return head


@cases("query2label")
def test_query2label_is_that_of_the_authors_code(case):
    close(query2label(case)(feature_of(case)).logits, case)


def test_query2label_trains_with_the_dropout_of_the_authors_code():
    case = NUMBERS["query2label"]["cases"][0]
    trains_alike(query2label(case), case)


def test_query2label_starts_like_the_authors_code():
    expected = NUMBERS["query2label"]["initial_sd"]
    torch.manual_seed(1)
    head = build("query2label", 30, 96, label_embedding=64)
    started = {name: parameter.std().item() for name, parameter in head.named_parameters()}
    for name, ours in {
        "transformer.encoder.layers.0.self_attn.in_proj_weight": "encoder.0.attend.in_proj_weight",
        "transformer.decoder.layers.1.multihead_attn.out_proj.weight": "read.1.attend.out_proj.weight",
        "transformer.decoder.layers.0.linear2.weight": "read.0.feed.fc2.weight",
        "input_proj.weight": "places.embed.weight",
        "query_embed.weight": "queries.embeddings",
        "fc.W": "classifier.weight",
    }.items():
        assert started[ours] == pytest.approx(expected[name], rel=0.05), ours


ML_DECODER = [
    ("decoder.layers.0.multihead_attn", "read.attend"),
    ("decoder.layers.0.linear", "read.feed.fc"),
    ("decoder.layers.0.norm1", "norm"),
    ("decoder.layers.0.norm2", "read.norm_read"),
    ("decoder.layers.0.norm3", "read.norm_fed"),
    ("decoder.embed_standart", "embed"),
    ("decoder.query_embed.weight", "queries.embeddings"),
    ("decoder.duplicate_pooling_bias", "classifier.bias"),
    ("decoder.duplicate_pooling", "classifier.weight"),
]


def ml_decoder(case):
    arguments = case["arguments"]
    findings, queries = arguments["num_classes"], arguments["num_of_groups"]
    head = build(
        "ml_decoder",
        findings,
        label_embedding=arguments["decoder_embedding"],
        attention_heads=8,
        queries=queries if queries > 0 else None,
    )
    state = weights_of(case, ML_DECODER)
    state["classifier.weight"] = state["classifier.weight"].transpose(1, 2).flatten(0, 1)[:findings]
    head.load_state_dict(state)
    return head


@cases("ml_decoder")
def test_ml_decoder_is_that_of_the_authors_code(case):
    close(ml_decoder(case)(feature_of(case)).logits, case)


def test_ml_decoder_trains_with_the_dropout_of_the_authors_code():
    case = NUMBERS["ml_decoder"]["cases"][0]
    trains_alike(ml_decoder(case), case)


@pytest.mark.parametrize("expected", NUMBERS["ml_decoder"]["initial"], ids=lambda case: str(case["num_classes"]))
def test_ml_decoder_starts_like_the_authors_code(expected):
    torch.manual_seed(1)
    findings = expected["num_classes"]
    head = build("ml_decoder", findings, 96, label_embedding=expected["decoder_embedding"], attention_heads=8)
    # theirs has 100 queries for 250 classes, of which 16 are of no class
    assert len(head.queries.embeddings) == math.ceil(findings / math.ceil(findings / expected["queries"]))
    assert head.queries.embeddings.std().item() == pytest.approx(expected["queries_sd"], rel=0.05)
    assert head.classifier.weight.std().item() == pytest.approx(expected["classifier_sd"], rel=0.05)


def test_ml_gcn_starts_like_the_authors_code():
    text, hidden, width = NUMBERS["ml_gcn"]["widths"]
    torch.manual_seed(1)
    recipe = ModelRecipe(head="ml_gcn", label_embedding=hidden)
    graph = HEADS["ml_gcn"](width, recipe, Labels(torch.eye(4), torch.eye(4, text))).graph
    started = [graph.first.weight.std().item(), graph.second.weight.std().item()]
    assert started == pytest.approx(NUMBERS["ml_gcn"]["initial_sd"], rel=0.01)
