"""EVA-X (Yao et al., arXiv 2405.05237) as timm models: vision transformers pretrained on chest radiographs.

The architectures are those of EVA-02 (Fang et al. 2023) with patches of 16 pixels and rotary positions of a 14 x 14
grid. The weights are distributed by their authors: https://github.com/hustvl/EVA-X.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.eva import Eva, checkpoint_filter_fn

_STATISTICS = {"mean": (0.49185243,) * 3, "std": (0.28509309,) * 3}
"""Of the gray values of the radiographs that EVA-X was pretrained on, from its authors' code."""
_CONFIG: dict[str, Any] = {
    "url": "",
    "num_classes": 0,
    "input_size": (3, 224, 224),
    "pool_size": None,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "fixed_input_size": True,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
    "license": "mit",
    **_STATISTICS,
}
default_cfgs = generate_default_cfgs({f"eva_x_{size}_patch16": _CONFIG for size in ("tiny", "small", "base")})


def _create(variant: str, pretrained: bool, **settings: Any) -> Eva:
    shared: dict[str, Any] = {
        "patch_size": 16,
        "depth": 12,
        "mlp_ratio": 4 * 2 / 3,
        "swiglu_mlp": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (14, 14),
    }
    features = {"out_indices": settings.pop("out_indices", 3), "feature_cls": "getter"}
    return build_model_with_cfg(
        Eva,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg=features,
        **shared | settings,
    )


@register_model
def eva_x_tiny_patch16(pretrained: bool = False, **settings: Any) -> Eva:
    """EVA-X-Ti, 6 million parameters."""
    return _create("eva_x_tiny_patch16", pretrained, **{"embed_dim": 192, "num_heads": 3} | settings)


@register_model
def eva_x_small_patch16(pretrained: bool = False, **settings: Any) -> Eva:
    """EVA-X-S, 22 million parameters."""
    return _create("eva_x_small_patch16", pretrained, **{"embed_dim": 384, "num_heads": 6} | settings)


@register_model
def eva_x_base_patch16(pretrained: bool = False, **settings: Any) -> Eva:
    """EVA-X-B, 86 million parameters."""
    width = {"embed_dim": 768, "num_heads": 12, "qkv_fused": False, "scale_mlp": True}
    return _create("eva_x_base_patch16", pretrained, **width | settings)
