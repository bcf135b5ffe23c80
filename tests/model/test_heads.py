"""The contract that every head passes, and what is particular to TRCGL-Net's."""

import dataclasses

import pytest
import torch

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads import HEADS
from trcgl.model.label_graph import Labels, adjacency

WIDTH, FINDINGS = 32, 6
RECIPE = ModelRecipe(learn_gates=True, dropout=0.2, label_embedding=16, reduction=4)


def build(name, recipe=RECIPE, findings=FINDINGS, vectors=None):
    torch.manual_seed(0)
    recipe = dataclasses.replace(recipe, head=name)
    return HEADS[name](WIDTH, recipe, Labels(adjacency(torch.rand(findings, findings), 0.4), vectors))


every_head = pytest.mark.parametrize("name", HEADS)


@pytest.mark.parametrize("findings", [1, 5, 30])
@pytest.mark.parametrize(("batch", "grid"), [(1, (1, 1)), (2, (4, 4)), (1, (3, 5))])
@every_head
def test_every_head_returns_one_logit_and_one_map_per_finding(name, batch, grid, findings):
    output = build(name, findings=findings)(torch.randn(batch, WIDTH, *grid))
    assert output.logits.shape == (batch, findings)
    assert output.maps is None or output.maps.shape == (batch, findings, *grid)


@pytest.mark.parametrize("spread", [1, 30])
@pytest.mark.parametrize("training", [True, False])
@every_head
def test_the_maps_of_every_head_are_shares_of_one(name, training, spread):
    recipe = dataclasses.replace(RECIPE, decoder_dropout=0.0) if training else RECIPE  # it removes attention weights
    maps = build(name, recipe).train(training)(spread * torch.randn(3, WIDTH, 3, 5)).maps
    if maps is not None:
        torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, FINDINGS))
        assert (maps >= 0).all()


@pytest.mark.parametrize("graph", ["symmetric", "learned"])
@pytest.mark.parametrize("text", [False, True])
@every_head
def test_every_parameter_of_every_head_is_trained(name, graph, text):
    vectors = torch.nn.functional.normalize(torch.randn(FINDINGS, 24), dim=1) if text else None
    head = build(name, dataclasses.replace(RECIPE, graph=graph), vectors=vectors)
    (head(torch.randn(3, WIDTH, 4, 4)).logits ** 2).sum().backward()
    without = [name for name, weight in head.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@every_head
def test_label_embeddings_can_be_kept_as_they_start(name):
    head = build(name, dataclasses.replace(RECIPE, learn_embeddings=False))
    assert [name for name, parameter in head.named_parameters() if not parameter.requires_grad] == [
        name for name, _ in head.named_parameters() if name.endswith("embeddings")
    ]


@every_head
def test_every_head_is_deterministic_in_evaluation(name):
    head, feature = build(name).eval(), torch.randn(3, WIDTH, 4, 4)
    assert torch.equal(head(feature).logits, head(feature).logits)


@every_head
def test_an_image_is_scored_the_same_in_any_batch(name):
    head, feature = build(name).eval(), torch.randn(5, WIDTH, 4, 4)
    torch.testing.assert_close(head(feature).logits[2:3], head(feature[2:3]).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_head
def test_every_head_is_finite_in_mixed_precision(name, dtype):
    head = build(name)
    with torch.autocast("cpu", dtype=dtype):
        output = head(10 * torch.randn(2, WIDTH, 4, 4))
    output.logits.float().sum().backward()
    assert output.logits.isfinite().all()
    assert output.maps is None or output.maps.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@every_head
def test_relabeling_the_findings_permutes_the_outputs(name):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    head, feature = build(name).eval(), torch.randn(3, WIDTH, 4, 4)
    relabeled = build(name).eval()
    state = head.state_dict()
    for key, value in state.items():
        if value.ndim and value.shape[0] == FINDINGS:
            state[key] = value[order]
    if "graph.adjacency" in state:
        state["graph.adjacency"] = state["graph.adjacency"][:, order]
    relabeled.load_state_dict(state)
    straight, permuted = head(feature), relabeled(feature)
    torch.testing.assert_close(permuted.logits, straight.logits[:, order])
    if straight.maps is not None:
        torch.testing.assert_close(permuted.maps, straight.maps[:, order])


@every_head
def test_every_head_learns_a_batch_by_heart(name):
    head = build(name, dataclasses.replace(RECIPE, dropout=0.0))
    feature, target = torch.randn(8, WIDTH, 4, 4), torch.randint(0, 2, (8, FINDINGS)).float()
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-2, weight_decay=0.0)
    for _ in range(600):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(feature).logits, target)
        if loss.item() < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_attention_maps_sum_to_one_at_any_temperature(temperature):
    head = build("trcgl", dataclasses.replace(RECIPE, attention_temperature=temperature))
    maps = head(20 * torch.randn(3, WIDTH, 5, 5)).maps
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, FINDINGS))
    assert (maps >= 0).all()


def test_a_closed_gate_leaves_the_linear_head():
    closed = dataclasses.replace(RECIPE, reweighting_gate=0.0, attention_gate=0.0, graph_gate=0.0)
    head, plain = build("trcgl", closed).eval(), build("linear").eval()
    plain.classifier.load_state_dict(head.classifier.state_dict())
    feature = torch.randn(3, WIDTH, 4, 4)
    torch.testing.assert_close(head(feature).logits, plain(feature).logits)


def test_a_closed_gate_can_open_when_it_is_learned():
    closed = dataclasses.replace(RECIPE, reweighting_gate=0.0, attention_gate=0.0, graph_gate=0.0)
    head = build("trcgl", closed)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    feature, target = torch.randn(8, WIDTH, 4, 4), torch.randint(0, 2, (8, FINDINGS)).float()
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(head(feature).logits, target).backward()
        optimizer.step()
    assert all(value != 0 for value in head.gates().values())


def test_a_constant_gate_keeps_its_published_value():
    head = build("trcgl", dataclasses.replace(RECIPE, learn_gates=False))
    assert head.gates() == pytest.approx({"reweighting": 0.05, "attention": 0.1, "graph": 0.05})
    assert not any(parameter.requires_grad for name, parameter in head.named_parameters() if "gate" in name)


def test_the_head_computes_the_published_equations():
    head, feature = build("trcgl").double().eval(), torch.randn(2, WIDTH, 3, 3, dtype=torch.float64)
    w, b = head.classifier.weight, head.classifier.bias
    for image in range(2):
        f = feature[image].flatten(1)                                        # (D, hw)
        g = f.mean(1)
        s = torch.sigmoid(head.reweight.excite(torch.relu(head.reweight.squeeze(g))))
        reweighted = f + head.reweight.gate * s[:, None] * f
        attention = torch.softmax((head.attend.query.weight @ reweighted).float(), 1).double()
        spatial = ((attention @ reweighted.T) * w).sum(1) + b
        together = head.graph(reweighted.mean(1)[None])[0]
        expected = w @ g + b + head.attention_gate * spatial + head.graph_gate * together
        torch.testing.assert_close(head(feature).logits[image], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("learn", [True, False])
def test_a_module_that_is_switched_off_stays_off_and_the_others_do_not(learn):
    gates = {"reweighting_gate": 0.3, "attention_gate": 0.3, "graph_gate": 0.3, "learn_gates": learn}
    feature = torch.randn(3, WIDTH, 4, 4)
    for off in ("reweighting", "attention", "graph"):
        head = build("trcgl", dataclasses.replace(RECIPE, **gates, dropout=0.0, switched_off=(off,)))
        (head(feature).logits ** 2).sum().backward()
        gradients = [head.reweight.gate.grad, head.attention_gate.grad, head.graph_gate.grad]
        assert head.gates() == {name: 0.0 if name == off else pytest.approx(0.3) for name in head.gates()}
        moved = {name for name, grad in zip(head.gates(), gradients, strict=True) if grad is not None}
        assert moved == (set(head.gates()) - {off} if learn else set())
    linear = build("trcgl", dataclasses.replace(RECIPE, **gates, dropout=0.0, switched_off=tuple(head.gates())))
    plain = linear.classifier(feature.mean((2, 3)))
    torch.testing.assert_close(linear(feature).logits, plain)
