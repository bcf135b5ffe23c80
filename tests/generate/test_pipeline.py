"""Prompts become vectors, context tokens take their places, and learn alone."""

import pytest
import torch

from trcgl.core.errors import DataError, RecipeError
from trcgl.core.generator_recipe import AutoencoderRecipe, ContextRecipe, GeneratorRecipe, TextRecipe, UNetRecipe
from trcgl.dataset.sources.padchest_findings import SPACE
from trcgl.generate import pipeline
from trcgl.generate.folder import start_context
from trcgl.generate.prompts import EMPTY, prompt

TWO = prompt(["Hernia", "Mass"], "Normal")


def recipe(placement="output", tokens=32, **more):
    return GeneratorRecipe(
        image_size=32,
        views=False,
        unet=UNetRecipe(widths=(32, 32), layers=1),
        text=TextRecipe(width=32, layers=1, heads=2, tokens=tokens),
        context=ContextRecipe(placement=placement, shared=2, per_finding=3),
        **more,
    )


def build(placement="output", **more):
    return pipeline.build(recipe(placement, **more), SPACE)


@pytest.mark.parametrize(("placement", "length"), [("none", 32), ("input", 32), ("output", 32 + 2 + 3)])
def test_all_prompts_are_equally_long_and_the_empty_one_too(placement, length):
    generator = build(placement)
    hidden = generator.encode([TWO, prompt(["Normal"], "Normal"), EMPTY])
    assert hidden.shape == (3, length, 32)
    torch.testing.assert_close(generator.encode_empty(), hidden[2:])


def test_the_pieces_of_a_prompt_show_where_context_stands():
    assert build("none").as_encoded(TWO) == [
        "<|startoftext|>", "chest", "radiograph", "with", "hernia", "and", "mass", "<|endoftext|>",
    ]  # fmt: skip
    within = build("input").as_encoded(TWO)
    assert within[1:3] == ["[shared 1]", "[shared 2]"]
    assert within[within.index("hernia") - 3 : within.index("hernia")] == ["[Hernia 1]", "[Hernia 2]", "[Hernia 3]"]
    behind = build("output").as_encoded(TWO)
    assert behind[-5:] == ["[shared 1]", "[shared 2]", *(f"[mean of Hernia + Mass {place}]" for place in (1, 2, 3))]
    assert build("output").as_encoded(EMPTY)[-1] == "[mean of all findings 3]"


@pytest.mark.parametrize("placement", ["input", "output"])
def test_tokens_are_left_out_of_every_prompt_by_kind(placement):
    whole = build(placement).as_encoded(TWO)
    shared = ["[shared 1]", "[shared 2]"]
    for kind, kept in (("handwritten", []), ("shared_tokens", shared), ("per_finding_tokens", None), ("learned", None)):
        generator = build(placement)
        generator.context.restrict(kind)
        pieces = generator.as_encoded(TWO)
        tokens = [piece for piece in pieces if piece.startswith("[")]
        if kept is None:
            kept = [piece for piece in whole if piece.startswith("[") and (kind == "learned" or piece not in shared)]
        assert tokens == kept
        assert generator.encode([TWO]).shape[1] == 32 + len(tokens) * (placement == "output")
        assert [piece for piece in pieces if piece[0] != "["] == [piece for piece in whole if piece[0] != "["]


def test_tokens_that_a_generator_has_not_are_asked_for_in_vain():
    with pytest.raises(RecipeError, match="--prompt shared_tokens: the generator has no such tokens"):
        build("none").context.restrict("shared_tokens")
    build("none").context.restrict("handwritten")


def test_tokens_of_findings_behind_the_text_are_averaged():
    generator = build("output")
    tokens = generator.context.of_finding
    hidden = generator.encode([TWO, EMPTY])
    expected = (tokens[SPACE.index("Hernia")] + tokens[SPACE.index("Mass")]) / 2
    torch.testing.assert_close(hidden[0, -3:], expected)
    torch.testing.assert_close(hidden[1, -3:], tokens.mean(0))


def test_context_within_the_text_changes_what_follows_and_nothing_before():
    generator = build("input")
    before = generator.encode([TWO])
    with torch.no_grad():
        generator.context.of_finding[SPACE.index("Mass")] += 1
    after = generator.encode([TWO])
    place = generator.as_encoded(TWO).index("[Mass 1]")
    torch.testing.assert_close(before[:, :place], after[:, :place])
    assert not torch.allclose(before[:, place:], after[:, place:])


@pytest.mark.parametrize("placement", ["input", "output"])
def test_gradients_reach_the_context_alone_when_the_rest_is_frozen(placement):
    generator = build(placement)
    for part in (generator.unet, generator.text_encoder, generator.vae):
        part.requires_grad_(False)
    latent = generator.to_latents(torch.rand(2, 1, 32, 32) * 2 - 1)
    hidden = generator.encode([TWO, EMPTY])
    generator.unet(latent, torch.tensor([5, 900]), encoder_hidden_states=hidden).sample.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in generator.context.parameters())
    asked = generator.context.of_finding.grad.abs().sum((1, 2)) > 0
    named = {finding for finding, moved in zip(SPACE.findings, asked.tolist(), strict=True) if moved}
    assert named == ({"Hernia", "Mass"} if placement == "input" else set(SPACE.findings))
    for part in (generator.unet, generator.text_encoder, generator.vae):
        assert all(weight.grad is None for weight in part.parameters())


def test_no_hook_stays_on_the_text_encoder():
    generator = build("input")
    generator.encode([TWO])
    embedding = generator.text_encoder.get_input_embeddings()
    assert not embedding._forward_hooks and not embedding._forward_pre_hooks


@pytest.mark.parametrize("placement", ["input", "output"])
def test_context_that_starts_at_a_name_is_nearest_to_it(placement):
    generator = build(placement)
    start_context(generator)
    vectors = generator.word_vectors(["hernia", "mass", "kyphosis"])
    mean = generator.context.of_finding[SPACE.index("Hernia")].mean(0)
    cosine = torch.nn.functional.cosine_similarity(mean[None], vectors)
    assert cosine.argmax() == 0


def test_a_prompt_that_would_be_cut_is_refused():
    with pytest.raises(DataError, match=r"'chest radiograph with hernia and mass' has 16 tokens.*reads 13"):
        build("input", tokens=13).encode([TWO])


def test_a_text_encoder_that_cannot_read_a_findings_own_name_is_refused_at_once():
    with pytest.raises(DataError, match="'chest radiograph with central venous catheter' has 13 tokens.*reads 12"):
        build("input", tokens=12)


def test_prompts_begin_faint_and_already_apart():
    generator = build()
    with torch.no_grad():
        text = generator.encode([prompt([finding], SPACE.normal) for finding in SPACE.findings])
        heard = generator.unet.add_embedding(text)
        channels, side = generator.unet.config["in_channels"], generator.unet.config["sample_size"]
        noise = torch.randn(1, channels, side, side).expand(len(text), -1, -1, -1)
        predicted = [
            generator.unet(noise, 500, encoder_hidden_states=hidden).sample for hidden in (text, text.roll(1, 0))
        ]
    assert torch.allclose(heard.mean(0), torch.zeros_like(heard[0]), atol=0.1)
    assert 0.25 < heard.std(0).mean() < 0.35
    assert (predicted[0] - predicted[1]).abs().mean() < 0.5 * predicted[0].abs().mean()


def test_all_weights_follow_from_the_seed():
    first, again, other = build(), build(), pipeline.build(recipe(seed=1), SPACE)
    for part in ("unet", "text_encoder", "context"):
        weights = [
            torch.cat([weight.flatten() for weight in getattr(g, part).parameters()]) for g in (first, again, other)
        ]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_weights_of_a_vae_follow_from_the_seed():
    vae = AutoencoderRecipe(kind="vae", width=16)
    first, again, other = (
        torch.cat([weight.flatten() for weight in build(autoencoder=vae, seed=seed).vae.parameters()])
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_latents_come_back_as_the_images_they_were():
    generator = build()
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(generator.from_latents(generator.to_latents(images)), images)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(RecipeError, match=r"image_size is 32.*must be a multiple of 64"):
        pipeline.build(recipe(autoencoder=AutoencoderRecipe(factor=32)), SPACE)
