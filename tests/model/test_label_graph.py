import torch
from hypothesis import given
from hypothesis import strategies as st

from trcgl.core.recipe import ModelRecipe
from trcgl.model.label_graph import LabelGraph, Labels, adjacency, build_adjacency, ml_gcn_adjacency

RECIPE = ModelRecipe(label_embedding=16)


def test_adjacency_by_hand():
    # mean of 0.6 and 0.2 is 0.4; 0.01 and 0.02 average to 0.015 and fall below the threshold
    conditional = torch.tensor([[1.0, 0.6, 0.01], [0.2, 1.0, 0.0], [0.02, 0.0, 1.0]])
    row = 1.4  # self-loop 1 and edge 0.4
    expected = torch.tensor([[1 / row, 0.4 / row, 0], [0.4 / row, 1 / row, 0], [0, 0, 1]])
    torch.testing.assert_close(adjacency(conditional, 0.02), expected)


def test_a_graph_without_edges_is_the_identity():
    assert torch.equal(adjacency(torch.zeros(4, 4), 0.02), torch.eye(4))
    assert torch.equal(adjacency(torch.rand(4, 4), 2.0), torch.eye(4))


def test_a_weight_at_the_threshold_is_an_edge():
    assert adjacency(torch.full((2, 2), 0.25), 0.25)[0, 1] > 0


@given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 10**6))
def test_adjacency_is_symmetric_finite_and_of_spectral_radius_one(findings, threshold, seed):
    graph = adjacency(torch.rand(findings, findings, generator=torch.Generator().manual_seed(seed)), threshold)
    assert graph.isfinite().all()
    torch.testing.assert_close(graph, graph.T)
    assert torch.linalg.eigvalsh(graph.double()).abs().max() <= 1 + 1e-6


def test_adjacency_leaves_its_argument_alone():
    conditional = torch.zeros(3, 3, dtype=torch.float64)
    adjacency(conditional, 0.02)
    assert not conditional.any()


def test_the_adjacency_of_ml_gcn_by_hand():
    # τ = 0.4 keeps 0→1, 0→2, 1→0 and 3→0; p = 0.2 is shared by the neighbors of a row, its own weight is 0.8.
    conditional = torch.tensor(
        [[1.0, 0.6, 0.4, 0.39], [0.7, 1.0, 0.1, 0.0], [0.3, 0.2, 1.0, 0.0], [0.5, 0.0, 0.0, 1.0]]
    )
    # Row sums are 1 with neighbors and 0.8 without, as finding 2 is; its column is divided by the root of 0.8.
    expected = torch.tensor(
        [[0.8, 0.1, 0.1 / 0.8**0.5, 0.0], [0.2, 0.8, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.2, 0.0, 0.0, 0.8]]
    )
    torch.testing.assert_close(ml_gcn_adjacency(conditional, 0.4, 0.2), expected)


@given(st.integers(1, 12), st.floats(0, 1), st.floats(0.01, 0.99), st.integers(0, 10**6))
def test_the_adjacency_of_ml_gcn_is_finite_and_of_spectral_radius_one(findings, threshold, share, seed):
    conditional = torch.rand(findings, findings, generator=torch.Generator().manual_seed(seed))
    graph = ml_gcn_adjacency(conditional, threshold, share)
    assert (graph >= 0).all() and (graph.diagonal() > 0).all()
    assert torch.linalg.eigvals(graph.double()).abs().max() <= 1 + 1e-5


def test_a_recipe_chooses_its_graph():
    conditional = torch.rand(5, 5, dtype=torch.float64)
    made = {
        name: build_adjacency(conditional, ModelRecipe(graph=name, graph_threshold=0.3, graph_share=0.25))
        for name in ("symmetric", "ml_gcn", "identity", "learned")
    }
    assert torch.equal(made["symmetric"], adjacency(conditional, 0.3))
    assert torch.equal(made["ml_gcn"], ml_gcn_adjacency(conditional, 0.3, 0.25))
    assert torch.equal(made["identity"], torch.eye(5)) and torch.equal(made["learned"], torch.eye(5))
    assert all(graph.dtype == torch.float32 for graph in made.values())


def test_graph_convolution_equals_a_dense_float64_reference():
    torch.manual_seed(0)
    graph = LabelGraph(12, RECIPE, Labels(adjacency(torch.rand(7, 7), 0.3)))
    pooled = torch.randn(5, 12)
    a, e = graph.adjacency.double(), graph.embeddings.double()
    hidden = a @ e @ graph.first.weight.double().T
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    z = a @ hidden @ graph.second.weight.double().T
    torch.testing.assert_close(graph.label_features().double(), z, rtol=1e-5, atol=1e-5)
    image = pooled.double() @ graph.project.weight.double().T
    cosine = torch.stack([(row * z).sum(1) / (row.norm() * z.norm(dim=1)) for row in image])
    torch.testing.assert_close(graph(pooled).double(), cosine * 10, rtol=1e-4, atol=1e-4)


def test_a_black_feature_has_a_finite_cosine_and_gradient():
    graph = LabelGraph(12, RECIPE, Labels(torch.eye(7)))
    pooled = torch.zeros(2, 12, requires_grad=True)
    logits = graph(pooled)
    logits.sum().backward()
    assert torch.equal(logits, torch.zeros(2, 7))
    assert pooled.grad.isfinite().all()
