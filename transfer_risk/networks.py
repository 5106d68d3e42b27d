"""The classic 2D U-Net (Ronneberger et al., MICCAI 2015) with batch normalisation; another last layer for any network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
"""Layers that can give a network's outputs."""


class UNet(nn.Module):
    """U-Net of `depth` levels, `width` features at the first and twice as many at each next.

    Args:
        channels: Input channels.
        classes: Output classes.
        width: Features of the first level.
        depth: Levels; the input is padded to a multiple of 2 ** (depth - 1) and the output cropped again.
    """

    def __init__(self, channels: int, classes: int, *, width: int = 32, depth: int = 5) -> None:
        super().__init__()
        if min(channels, classes, width, depth) < 1:
            raise ValueError(
                f"channels, classes, width and depth must be positive; got {channels}, {classes}, {width}, {depth}"
            )
        sizes = [width * 2**level for level in range(depth)]
        pairs = list(zip([channels, *sizes], sizes, strict=False))
        self.encoder = nn.ModuleList(_block(a, b) for a, b in pairs)
        steps = list(zip(sizes[::-1], sizes[-2::-1], strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in steps)
        self.decoder = nn.ModuleList(_block(2 * b, b) for _, b in steps)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, Y, H, W) for images (B, C, H, W) of any size."""
        return self.decode(self.encode(images))[..., : images.shape[-2], : images.shape[-1]]

    def encode(self, images: Tensor) -> list[Tensor]:
        """Features of each level, finest first."""
        multiple = 2 ** (len(self.encoder) - 1)
        height, width = images.shape[-2:]
        level = functional.pad(images, (0, -width % multiple, 0, -height % multiple))
        features = []
        for number, block in enumerate(self.encoder):
            level = block(functional.max_pool2d(level, 2) if number else level)
            features.append(level)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits on the padded grid from the features of `encode`."""
        level = features[-1]
        for up, block, skip in zip(self.up, self.decoder, features[-2::-1], strict=True):
            level = block(torch.cat([skip, up(level)], 1))
        return torch.as_tensor(self.head(level))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (inputs, outputs):
        layers += [
            nn.Conv2d(size, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def with_outputs(network: nn.Module, name: str, outputs: int) -> nn.Module:
    """The network with a new layer in place of the one of that name, like it but with so many outputs; changed in place.

    Raises:
        ValueError: if the network has no convolution or linear layer of that name.
    """
    old: Any = dict(network.named_modules()).get(name)
    if not isinstance(old, LAYERS):
        raise ValueError(
            f"head must name a convolution or linear layer of the network; got {name!r}"
        )
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, outputs, bias=bias)
    else:
        names = ["kernel_size", "stride", "padding", "dilation", "padding_mode"]
        names += ["output_padding"] if isinstance(old, LAYERS[2:4]) else []
        options = {k: getattr(old, k) for k in names}
        new = type(old)(old.in_channels, outputs, bias=bias, **options)
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, new)
    return network
