"""Small pipelines of diffusers with the parts, names and conventions of the bases that users have; random weights."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from trcgl.generate.tokenizer import build_tokenizer

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SCALE = 0.18215
FORMS = ("sd15", "sd21", "roentgen")


def small_pipeline(form, findings=("hernia", "mass", "edema", "normal"), longest=77):
    """A pipeline of the form of Stable Diffusion 1.5, of 2.1, or of RoentGen-v2, which is fine-tuned from 2.1-base.

    2.x has OpenCLIP's text encoder without its last layer, the activation GELU, the padding token of id 0, and linear
    projections around attention. 2.1 predicts the velocity, 1.5, 2.1-base and RoentGen-v2 the noise.
    """
    torch.manual_seed(FORMS.index(form))
    second = form != "sd15"
    words = ["normal frontal lateral chest radiograph with, and", *findings]
    tokenizer = build_tokenizer(words, longest)
    if second:
        tokenizer.pad_token = "!"
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
            scaling_factor=SCALE,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=longest,
                hidden_act="gelu" if second else "quick_gelu",
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=(1, 2) if second else 2,
            use_linear_projection=second,
            upcast_attention=form == "sd21",
            cross_attention_dim=32,
            norm_num_groups=8,
        ),
        scheduler=DDIMScheduler(**BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False)
        if form == "sd21"
        else PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
