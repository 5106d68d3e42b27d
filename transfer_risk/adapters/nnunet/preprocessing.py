"""nnU-Net's preprocessing from its documented behaviour: transpose, crop to non-zero, normalise, resample; and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from transfer_risk.adapters.nnunet.intensity import normalised
from transfer_risk.adapters.nnunet.resampling import Resampling, coarse_axis, resampled
from transfer_risk.grids import Grid, Prepared
from transfer_risk.outputs import activate
from transfer_risk.tasks import Preprocessing
from transfer_risk.volumes import Volume

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Recipe:
    """What plans.json and dataset.json say about preprocessing, axes in nnU-Net's order.

    Args:
        spacing: Millimetres; two numbers for 2D.
        transpose: Axis order of the network among (z, y, x).
        schemes: Normalisation of each channel.
        masked: Whether a channel is normalised over its non-zero region alone.
        intensities: Foreground intensity statistics of each channel, for CT.
        data: Resampling of images.
        probabilities: Resampling of outputs.
        reorient: Whether images are turned to RAS first.
        activation: Of the network: softmax, or sigmoid for overlapping regions.
    """

    spacing: tuple[float, ...]
    transpose: tuple[int, ...]
    schemes: tuple[str, ...]
    masked: tuple[bool, ...]
    intensities: tuple[Mapping[str, float], ...]
    data: Resampling
    probabilities: Resampling
    reorient: bool
    activation: str


def prepared(volume: Volume, recipe: Recipe) -> Prepared:
    """An examination as nnU-Net's network sees it: slices (N, C, h, w) in 2D, (1, C, x, y, z) in 3D.

    Raises:
        ValueError: if every voxel is 0.
    """
    grid = Grid.of(volume, Preprocessing(orientation="RAS" if recipe.reorient else ""), 3)
    axes = tuple(2 - t for t in recipe.transpose)  # nnU-Net counts z, y, x; nibabel gives x, y, z
    turned = grid.images(volume.image)[0].numpy().transpose(0, *(a + 1 for a in axes))
    spacing = [volume.spacing[i] for i in np.argsort(grid.orientation[:, 0])]
    mask = ndimage.binary_fill_holes((turned != 0).any(0))
    frame = Frame.of(mask, [spacing[a] for a in axes], recipe)
    image = normalised(
        turned[(slice(None), *frame.box)],
        mask[frame.box],
        recipe.schemes,
        recipe.masked,
        recipe.intensities,
    )
    images = frame.batch(np.stack([frame.forth(c, recipe.data) for c in image]))
    back = _way_back(grid, axes, frame)
    if volume.labels is None:
        return Prepared(images, None, torch.ones(len(images), dtype=torch.bool), back)
    labels = grid.labels(volume.labels)[0].numpy().transpose(axes)[frame.box]
    counts = (
        frame.batch((labels >= 0)[None]).flatten(1).any(1) if frame.flat else torch.tensor([True])
    )
    small = frame.forth(labels, Resampling(0, recipe.data.apart, recipe.data.ratio))
    return Prepared(images, frame.batch(small[None])[:, 0].long(), counts, back)


def _way_back(grid: Grid, axes: tuple[int, ...], frame: Frame) -> Callable[[Tensor], Array]:
    def back(batch: Tensor) -> Array:
        whole = frame.back(batch).transpose(0, *(int(a) + 1 for a in np.argsort(axes)))
        return grid.back(torch.from_numpy(whole)[None])

    return back


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the cropped region lies, and its grid before and after resampling."""

    recipe: Recipe
    shape: tuple[int, ...]
    box: tuple[slice, ...]
    spacing: tuple[float, ...]
    goal: tuple[float, ...]
    size: tuple[int, ...]

    @classmethod
    def of(cls, mask: Array, spacing: Sequence[float], recipe: Recipe) -> Frame:
        """Of the region that is not 0, axes in the network's order."""
        if not mask.any():
            raise ValueError("image must not be 0 everywhere: nnU-Net crops to what is not 0")
        box = ndimage.find_objects(mask.astype(np.int8))[0]
        goal = (spacing[0], *recipe.spacing) if len(recipe.spacing) == 2 else recipe.spacing
        lengths = [s.stop - s.start for s in box]
        size = tuple(
            max(1, round(a / b * n)) for a, b, n in zip(spacing, goal, lengths, strict=True)
        )
        return cls(recipe, mask.shape, box, tuple(spacing), tuple(goal), size)

    @property
    def flat(self) -> bool:
        """Whether the network is 2D: slices lie along the first axis."""
        return len(self.recipe.spacing) == 2

    def batch(self, data: Array) -> Tensor:
        """Channels (C, a, b, c) as the network takes them."""
        turned = np.moveaxis(data, 1, 0) if self.flat else data[None]
        return torch.from_numpy(np.ascontiguousarray(turned))

    def forth(self, data: Array, how: Resampling) -> Array:
        """One channel on the network's grid."""
        return resampled(data, self.size, how, coarse_axis(self.spacing, self.goal, how))

    def back(self, batch: Tensor) -> Array:
        """Probabilities (Z, a, b, c) on the whole image, background outside the box, from a batch on the network's grid.

        Outputs are resampled before the activation, as nnU-Net does.
        """
        theta = batch.movedim(0, 1) if self.flat else batch[0]
        whole = np.zeros((len(theta), *self.shape), dtype=np.float32)
        whole[0] = 1
        inside = whole[(slice(None), *self.box)]
        if inside.shape[1:] == self.size:
            inside[...] = theta.numpy()
            return whole
        how, activation = self.recipe.probabilities, self.recipe.activation
        axis = coarse_axis(self.goal, self.spacing, how)
        raw = inside if activation == "softmax" else inside[1:]
        for made, channel in zip(raw, raw_outputs(theta, activation), strict=True):
            made[...] = resampled(channel.numpy(), made.shape, how, axis)
        for k in range(0, len(raw[0]), 16):
            slab = torch.from_numpy(raw[None, :, k : k + 16])
            inside[:, k : k + 16] = activate(slab, activation)[0].numpy()
        return whole


def raw_outputs(theta: Tensor, activation: str) -> Iterator[Tensor]:
    """Outputs (*S), one channel after another, whose activation is the probabilities (Z, *S).

    Those of a softmax are known up to a constant for each voxel, which linear resampling passes on as such a constant;
    those of overwriting sigmoids are p_k = c_k / sum_{j<=k} c_j in logits.

    >>> x = torch.tensor([[2.0], [-1.0]])
    >>> theta = activate(x[None], "sigmoid")[0]
    >>> torch.allclose(torch.stack(list(raw_outputs(theta, "sigmoid"))), x)
    True
    """
    tiny = torch.finfo(theta.dtype).tiny
    if activation == "softmax":
        yield from (z.clamp(min=tiny).log_() for z in theta)
        return
    below = theta[0].clone()
    for z in theta[1:]:
        yield z.clamp(min=tiny).log_() - below.clamp(min=tiny).log_()
        below += z
