"""Networks of nnU-Net v2 from their plans, with dynamic-network-architectures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor, nn

LIBRARY = "dynamic_network_architectures"
ALLOWED = ("torch.nn.", f"{LIBRARY}.building_blocks.")


class Folds(nn.Module):
    """Mean of the outputs of several networks, each averaged over mirrored images in evaluation mode.

    Args:
        networks: One for each fold.
        mirrored: Spatial axes, from 0, that are mirrored in every combination.
    """

    def __init__(self, networks: Sequence[nn.Module], mirrored: Sequence[int] = ()) -> None:
        super().__init__()
        self.folds = nn.ModuleList(networks)
        self.mirrored = tuple(axis + 2 for axis in mirrored)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, Z, *S) of images (B, C, *S)."""
        axes = () if self.training else self.mirrored
        flips = chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
        outputs = [
            torch.flip(network(torch.flip(images, flip)), flip)
            for flip in flips
            for network in self.folds
        ]
        return torch.stack(outputs).mean(0)


def build(configuration: Mapping[str, Any], channels: int, outputs: int) -> nn.Module:
    """The network of a configuration of plans.json, with random weights and one output head.

    Raises:
        ValueError: if dynamic-network-architectures is missing, or the plans name another class or unfit arguments.
    """
    table = configuration.get("architecture") or _old_architecture(configuration)
    name, given = table["network_class_name"], dict(table["arch_kwargs"])
    if not name.startswith(f"{LIBRARY}.architectures."):
        raise ValueError(
            f"network_class_name must be one of {LIBRARY}.architectures; it is {name}; give the network as a factory"
        )
    for key in table.get("_kw_requires_import", ()):
        if given.get(key) is not None:
            if not given[key].startswith(ALLOWED):
                raise ValueError(
                    f"{key} must be a class of torch.nn or of {LIBRARY}; it is {given[key]}"
                )
            given[key] = _found(given[key])
    kind = _found(name)
    try:
        network = kind(
            input_channels=channels, num_classes=outputs, deep_supervision=False, **given
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(f"arch_kwargs do not fit {name} ({error})") from None
    if not isinstance(network, nn.Module):
        raise ValueError(f"network_class_name must be a network; it is {name}")
    return network.eval()


def drop_other_heads(network: nn.Module) -> None:
    """Take out the heads of lower resolution, which served deep supervision and stay unused: a new head is one head."""
    for module in network.modules():
        heads = getattr(module, "seg_layers", None)
        if isinstance(heads, nn.ModuleList):
            for k in range(len(heads) - 1):
                heads[k] = nn.Identity()


def _found(name: str) -> Any:
    """A class by its dotted name; its module by the longest part that can be imported."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == LIBRARY and not find_spec(LIBRARY):
            raise ValueError(
                "nnU-Net folders need the package dynamic-network-architectures; pip install -e '.[nnunet]' in the clone"
            ) from None
        if module.startswith(f"{LIBRARY}.architectures.") and not module.endswith(".unet"):
            return _found(f"{LIBRARY}.architectures.unet.{attribute}")
        raise ValueError(f"{name} is not in the installed packages ({error})") from None
    except AttributeError:
        raise ValueError(f"{name} is not in the installed packages") from None


def _old_architecture(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture section for plans that were made before nnU-Net 2.3."""
    name = configuration.get("UNet_class_name")
    blocks = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
    if name not in blocks:
        raise ValueError(
            f"plans must have an architecture section, or UNet_class_name one of {', '.join(blocks)}; it is {name!r}"
        )
    dims = len(configuration["patch_size"])
    counts = configuration["n_conv_per_stage_encoder"]
    width, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    given = {
        "n_stages": len(counts),
        "features_per_stage": [min(width * 2**k, most) for k in range(len(counts))],
        "conv_op": f"torch.nn.Conv{dims}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        blocks[name]: counts,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": f"torch.nn.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": f"{LIBRARY}.architectures.unet.{name}",
        "arch_kwargs": given,
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
    }
