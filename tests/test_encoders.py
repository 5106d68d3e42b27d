"""The encoder of each known network class is its contracting path, found by running it."""

import re

import pytest
import torch
from torch import nn

import transfer_risk as tr
from transfer_risk.encoders import KNOWN, encoder_parameters, encoder_pattern

SWIN = {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
NETWORKS = [  # class, arguments: a small 2D network of each
    ("UNet", (2, 1, 2, (4, 8, 16), (2, 2)), {}),
    ("UNet", (2, 1, 2, (4, 8, 16), (2, 2)), {"num_res_units": 2}),
    ("AttentionUnet", (2, 1, 2, (4, 8, 16), (2, 2)), {}),
    ("AttentionUnet", (2, 1, 2, (4, 8), (2,)), {}),
    ("BasicUNet", (2, 1, 2, (4, 4, 8, 8, 8, 4)), {}),
    ("DynUNet", (2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], [4, 8, 8]), {}),
    (
        "DynUNet",
        (2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], [4, 8, 8]),
        {"deep_supervision": True, "deep_supr_num": 1},
    ),
    ("SegResNet", (2, 8, 1, 2), {"blocks_down": (1, 1, 1), "blocks_up": (1, 1)}),
    ("SwinUNETR", (1, 2), {"spatial_dims": 2} | SWIN),
    ("UNETR", (1, 2, 64, 4, 12, 12, 2), {"spatial_dims": 2}),
]


def order_of_use(network):
    """Names of modules with parameters of their own in the order of their first use, and their output's height."""
    seen, hooks = {}, []

    def note(name):
        def hook(module, inputs, output):
            seen.setdefault(name, output.shape[-2] if output.ndim == 4 else 0)

        return hook

    for (
        name,
        module,
    ) in network.named_modules():  # one name for each module, however often it is held
        if next(module.parameters(recurse=False), None) is not None:
            hooks.append(module.register_forward_hook(note(name)))
    with torch.no_grad():
        network.eval()(torch.rand(1, 1, 64, 64))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(("name", "arguments", "options"), NETWORKS)
def test_the_encoder_is_what_runs_before_the_first_step_up(name, arguments, options):
    from monai.networks import nets

    network = getattr(nets, name)(*arguments, **options)
    pattern = encoder_pattern(network)
    used = order_of_use(network)
    inside = [bool(re.search(pattern, f"{name}.weight")) for name in used]
    cut = inside.index(False)
    assert cut > 1 and not any(inside[cut:]), "used after the decoder began"
    heights = list(used.values())
    assert max(heights[cut:]) == 64, "the decoder comes back to the input's resolution"
    if "UNETR" not in type(network).__name__:  # their skips have branches of their own
        assert heights[:cut] == sorted(heights[:cut], reverse=True), "the encoder never steps up"
        assert heights[cut - 1] == min(heights), "it ends at the bottleneck"
    names = encoder_parameters(network)
    assert 0 < len(names) < len(list(network.parameters()))


def test_the_table_is_covered():
    assert {name for name, _, _ in NETWORKS} == {path.rpartition(".")[2] for path in KNOWN}


class Decoder(nn.Module):
    """Holds the encoder, as nnU-Net's decoders do."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Conv2d(4, 2, 1)


class Holding(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(1, 4, 3)
        self.decoder = Decoder(self.encoder)


def test_an_attribute_encoder_is_taken_and_shared_parameters_count_once():
    network = Holding()
    assert encoder_pattern(network) == r"^encoder\."
    assert list(encoder_parameters(network)) == ["encoder.weight", "encoder.bias"]
    assert list(encoder_parameters(network, r"^decoder\.encoder\.")) == [
        "encoder.weight",
        "encoder.bias",
    ]
    assert encoder_pattern(tr.UNet(1, 2, width=4, depth=2)) == r"^encoder\."


def test_what_the_user_says_goes_first_and_has_to_match():
    network = tr.UNet(1, 2, width=4, depth=2)
    assert encoder_pattern(network, r"^encoder\.0\.") == r"^encoder\.0\."
    with pytest.raises(
        ValueError, match=r"'\^bottom' matches no parameter \(top level: encoder, up, decoder, head"
    ):
        encoder_pattern(network, "^bottom")
    with pytest.raises(ValueError, match="is no regular expression"):
        encoder_pattern(network, "(")


def test_an_unknown_network_is_no_guess():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1))
    with pytest.raises(ValueError, match=r"Sequential does not say .* \(top level: 0, 1\)"):
        encoder_pattern(network)
