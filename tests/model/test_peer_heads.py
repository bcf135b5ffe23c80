"""Heads of other papers against their published definitions, on fixed inputs."""

import math

import pytest
import torch
from torch import nn

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads import HEADS
from trcgl.model.label_graph import Labels, ml_gcn_adjacency

WIDTH = 12


def build(name, findings, vectors=None, **settings):
    torch.manual_seed(0)
    recipe = ModelRecipe(**{"head": name, "label_embedding": 16, **settings})
    return HEADS[name](WIDTH, recipe, Labels(torch.eye(findings), vectors)).eval()


@pytest.mark.parametrize("version", ["official", "0.2"])
@pytest.mark.parametrize(
    ("heads", "temperatures"),
    [(1, [1]), (2, [1, 99]), (4, [1, 2, 4, 99]), (6, [1, 2, 3, 4, 5, 99]), (8, [1, 2, 3, 4, 5, 6, 7, 99])],
)
def test_csra_is_its_formula(heads, temperatures, version):
    gate = {"csra_gate" if version == "official" else "attention_gate": 0.3}
    head = build("csra", 3, attention_heads=heads, head_version=version, **gate)
    feature = torch.randn(2, WIDTH, 2, 3)
    expected = torch.zeros(2, 3)
    for image in range(2):
        places = [feature[image, :, y, x] for y in range(2) for x in range(3)]
        for finding in range(3):
            for classifier, temperature in zip(head.classifiers, temperatures, strict=True):
                weight = classifier.weight[finding]
                weight = weight / weight.norm() if version == "official" else weight
                scores = [(weight @ place).item() for place in places]
                weights = [math.exp(temperature * (score - max(scores))) for score in scores]
                attended = sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
                if temperature == 99:
                    attended = max(scores)
                expected[image, finding] += sum(scores) / len(scores) + 0.3 * attended
    torch.testing.assert_close(head(feature).logits, expected)


def test_csra_with_one_place_is_linear_and_with_a_closed_gate_the_mean():
    head = build("csra", 3, attention_heads=1, attention_gate=0.0, head_version="0.2")
    feature = torch.randn(2, WIDTH, 4, 4)
    torch.testing.assert_close(head(feature).logits, feature.mean((2, 3)) @ head.classifiers[0].weight.T)
    assert head.gates() == {"attention": 0.0}


def test_csra_refuses_a_number_of_heads_without_published_temperatures():
    with pytest.raises(RecipeError, match="attention_heads is 3; csra has 1, 2, 4, 6, 8"):
        build("csra", 3, attention_heads=3)


@pytest.mark.parametrize("name", ["ml_decoder", "query2label", "clarity"])
@pytest.mark.parametrize("heads", [3, 32])
def test_a_width_that_cannot_be_divided_is_refused(name, heads):
    with pytest.raises(RecipeError, match=f"label_embedding is 16; {name} needs a multiple of 4 and of .*{heads}"):
        build(name, 3, attention_heads=heads)


@pytest.mark.parametrize(
    ("findings", "asked", "groups"),
    [
        (5, None, [0, 1, 2, 3, 4]),
        (5, 9, [0, 1, 2, 3, 4]),
        (6, 3, [0, 0, 1, 1, 2, 2]),
        (5, 2, [0, 0, 0, 1, 1]),
        (5, 4, [0, 0, 1, 1, 2]),  # two findings to a query; no finding is left for a fourth
        (5, 1, [0, 0, 0, 0, 0]),
    ],
)
def test_in_ml_decoder_each_finding_reads_the_query_of_its_group(findings, asked, groups):
    head, feature = build("ml_decoder", findings, queries=asked), torch.randn(2, WIDTH, 3, 4)
    assert head.queries.embeddings.shape == (max(groups) + 1, 16)
    logits, maps, _ = head(feature)
    for finding, group in enumerate(groups):
        torch.testing.assert_close(maps[:, finding], maps[:, groups.index(group)])
        with torch.no_grad():
            head.queries.embeddings[group] += 1 + torch.arange(16.0)
        moved = (head(feature).logits - logits).abs().amax(0) > 1e-6
        assert moved.tolist() == [other == group for other in groups]
        with torch.no_grad():
            head.queries.embeddings[group] -= 1 + torch.arange(16.0)


def test_ml_decoder_has_no_self_attention_and_one_layer():
    head = build("ml_decoder", 5, queries=2)
    assert sum(isinstance(module, nn.MultiheadAttention) for module in head.modules()) == 1
    assert head.classifier.weight.shape == (5, 16)


def test_the_text_vector_of_a_group_is_the_mean_of_its_findings():
    vectors = nn.functional.normalize(torch.randn(5, 9), dim=1)
    head = build("ml_decoder", 5, vectors, queries=2)
    expected = 3 * torch.stack([vectors[:3].mean(0), vectors[3:].mean(0)])  # of variance 1: times the root of 9
    torch.testing.assert_close(head.queries.embeddings.data, expected)


def test_ml_decoder_equals_the_decoder_layer_of_torch_without_its_self_attention():
    head, feature = build("ml_decoder", 5), torch.randn(2, WIDTH, 3, 4)
    peer = nn.TransformerDecoderLayer(16, 4, 64, dropout=0.0, batch_first=True).eval()
    nn.init.zeros_(peer.self_attn.out_proj.weight)
    nn.init.zeros_(peer.self_attn.out_proj.bias)
    copy_read(peer, head.read)
    peer.norm1.load_state_dict(head.norm.state_dict())
    places = head.embed(feature.flatten(2).transpose(1, 2)).relu()
    read = peer(head.queries(feature), places)
    expected = (read * head.classifier.weight).sum(-1) + head.classifier.bias
    torch.testing.assert_close(head(feature).logits, expected, rtol=1e-4, atol=1e-5)


def test_query2label_of_0_2_equals_the_decoder_of_torch_and_a_classifier_for_each_query():
    head = build("query2label", 5, attention_blocks=2, head_version="0.2")
    feature = torch.randn(2, WIDTH, 3, 4)
    places, positions = head.places(feature)
    queries = head.queries(feature)
    for among, read in zip(head.among, head.read, strict=True):
        peer = nn.TransformerDecoderLayer(16, 4, 64, dropout=0.0, batch_first=True).eval()
        copy_read(peer, read)
        peer.self_attn.load_state_dict(among.attend.state_dict())
        peer.norm1.load_state_dict(among.norm.state_dict())
        # torch's layer has no positions: let its keys be places with them and its values places without
        attended = peer.norm1(queries + peer.self_attn(queries, queries, queries)[0])
        attended = peer.norm2(attended + peer.multihead_attn(attended, places + positions, places)[0])
        queries = peer.norm3(attended + peer._ff_block(attended))
    for finding in range(5):
        weight, bias = head.classifier.weight[finding], head.classifier.bias[finding]
        torch.testing.assert_close(head(feature).logits[:, finding], queries[:, finding] @ weight + bias)


def copy_read(peer, read):
    peer.multihead_attn.load_state_dict(read.attend.state_dict())
    peer.linear1.load_state_dict(read.feed.fc1.state_dict())
    peer.linear2.load_state_dict(read.feed.fc2.state_dict())
    peer.norm2.load_state_dict(read.norm_read.state_dict())
    peer.norm3.load_state_dict(read.norm_fed.state_dict())


@pytest.mark.parametrize(("name", "differ"), [("query2label", True), ("clarity", True), ("ml_decoder", False)])
def test_only_heads_with_positions_know_where_a_place_is(name, differ):
    head, feature = build(name, 5), torch.randn(2, WIDTH, 3, 4)
    assert torch.allclose(head(feature).logits, head(feature.flip(3)).logits, atol=1e-6) != differ


def test_ml_gcn_multiplies_the_largest_features_with_what_the_graph_makes_of_the_labels():
    head, feature = build("ml_gcn", 5), torch.randn(2, WIDTH, 3, 4)
    assert head(feature).maps is None
    hidden = nn.functional.leaky_relu(head.graph.adjacency @ head.graph.embeddings @ head.graph.first.weight.T, 0.2)
    classifiers = head.graph.adjacency @ hidden @ head.graph.second.weight.T
    torch.testing.assert_close(head(feature).logits, feature.flatten(2).max(2).values @ classifiers.T)


def test_chexgcn_adds_the_scores_of_the_graph_to_the_images_own():
    head, feature = build("chexgcn", 5), torch.randn(2, WIDTH, 3, 4)
    pooled = feature.mean((2, 3))
    own = pooled @ head.classifier.weight.T + head.classifier.bias
    torch.testing.assert_close(head(feature).logits, own + pooled @ head.graph.label_features().T)


def test_a_finding_in_a_graph_hears_of_its_neighbors_alone():
    conditional = torch.tensor([[1.0, 0.9, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    recipe = ModelRecipe(head="ml_gcn", label_embedding=16)
    head = HEADS["ml_gcn"](WIDTH, recipe, Labels(ml_gcn_adjacency(conditional)))
    gradient = torch.autograd.grad(head(torch.randn(2, WIDTH, 2, 2)).logits[:, 0].sum(), head.graph.embeddings)[0]
    assert gradient.abs().amax(1).gt(0).tolist() == [True, True, False]


def test_dualattnet_sums_its_two_attentions():
    head, feature = build("dualattnet", 5, reduction=4), torch.randn(2, WIDTH, 3, 4)
    logits, maps, _ = head(feature)
    pooled = feature.mean((2, 3))
    first, second = head.importance[0], head.importance[2]
    gate = torch.sigmoid((pooled @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias)
    whole = gate * torch.einsum("cd,bdhw->bchw", head.everywhere.weight[:, :, 0, 0], feature).add(
        head.everywhere.bias[:, None, None]
    ).relu().mean((2, 3))
    scores = torch.einsum("cd,bdhw->bchw", head.classifier.weight, feature) + head.classifier.bias[:, None, None]
    torch.testing.assert_close(logits, whole + (maps * scores).sum((2, 3)))


def test_the_map_of_a_class_token_is_its_attention_to_the_places():
    head, feature = build("clarity", 5, attention_blocks=1), torch.randn(1, WIDTH, 3, 4)
    places, positions = head.places(feature)
    tokens = torch.cat([head.tokens(feature), places + positions], 1)
    block = head.blocks[0]
    normed = block.norm_attend(tokens)
    attention = block.attend(normed, normed, normed, average_attn_weights=False)[1].mean(1)[:, :5, 5:]
    expected = attention / attention.sum(-1, keepdim=True)
    torch.testing.assert_close(head(feature).maps.flatten(2), expected)


def test_clarity_is_a_vision_transformer_block_of_torch():
    head, feature = build("clarity", 5, attention_blocks=1), torch.randn(2, WIDTH, 3, 4)
    block = head.blocks[0]
    peer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    peer.self_attn.load_state_dict(block.attend.state_dict())
    peer.linear1.load_state_dict(block.feed.fc1.state_dict())
    peer.linear2.load_state_dict(block.feed.fc2.state_dict())
    peer.norm1.load_state_dict(block.norm_attend.state_dict())
    peer.norm2.load_state_dict(block.norm_feed.state_dict())
    places, positions = head.places(feature)
    read = head.norm(peer(torch.cat([head.tokens(feature), places + positions], 1))[:, :5])
    expected = (read * head.classifier.weight).sum(-1) + head.classifier.bias
    torch.testing.assert_close(head(feature).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ml_gcn", "chexgcn", "trcgl", "query2label", "clarity"])
def test_text_vectors_of_any_width_are_where_label_embeddings_start(name):
    vectors = nn.functional.normalize(torch.randn(5, 9), dim=1)
    head = build(name, 5, vectors)
    (embeddings,) = [value for key, value in head.named_parameters() if key.endswith("embeddings")]
    torch.testing.assert_close(nn.functional.normalize(embeddings.data, dim=1), vectors)
    assert head(torch.randn(2, WIDTH, 3, 4)).logits.shape == (2, 5)


def test_a_learned_graph_needs_no_counts():
    head, feature = build("trcgl", 5, graph="learned"), torch.randn(2, WIDTH, 3, 4)
    other = HEADS["trcgl"](WIDTH, ModelRecipe(label_embedding=16, graph="learned"), Labels(torch.rand(5, 5))).eval()
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(feature).logits, other(feature).logits)
    edges = head.graph.edges(head.graph.embeddings)
    torch.testing.assert_close(edges.sum(1), torch.ones(5))
    assert (edges.diagonal() > 0.5).all() and (edges > 0).all()
