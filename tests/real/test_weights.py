import torch

from trcgl.core.recipe import ModelRecipe
from trcgl.model.trcgl_net import TrcglNet


def test_imagenet_weights_of_efficientnet_lite0_start_a_backbone(shared_weights):
    path = shared_weights / "efficientnet_lite0_imagenet.safetensors"
    recipe = ModelRecipe(backbone="tf_efficientnet_lite0", weights=str(path), output_stride=16)
    network = TrcglNet(recipe, 14, torch.eye(14)).eval()
    # The file was converted from TensorFlow: trained on inputs in [-1, 1].
    assert network.mean.flatten().tolist() == network.std.flatten().tolist() == [0.5, 0.5, 0.5]
    with torch.inference_mode():
        output = network(torch.rand(1, 1, 224, 224))
    assert output.maps.shape == (1, 14, 14, 14)
    assert output.logits.isfinite().all()
