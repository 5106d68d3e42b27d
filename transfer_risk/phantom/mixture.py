"""A brain template from a T1 image alone."""

from typing import Any

import nibabel as nib
import numpy as np

from transfer_risk.phantom.template import (
    FilePath,
    Template,
    check_spacing,
    on_grid,
    read_canonical,
)

FITTED = 50_000
"""Voxels that the mixture is fitted to, at most."""


def template_from_t1(t1: FilePath, *, spacing: float = 2.0) -> Template:
    """Template from one skull-stripped T1: tissue fractions are posteriors of a Gaussian mixture of three intensities.

    From darkest to brightest the classes are cerebrospinal fluid, grey and white matter. Made for single brains such as
    Colin27 (Holmes et al., J. Comput. Assist. Tomogr. 22:324, 1998), which Debian's package mricron-data has as ch2bet.

    Args:
        t1: T1-weighted image, 0 outside the brain.
        spacing: Isotropic voxel size of the result, in mm.

    Returns:
        The template in RAS orientation, with a margin of 16 mm around the brain.

    Raises:
        ValueError: if spacing is out of range, or the image is not 3D or has its skull or no background.
    """
    check_spacing(spacing)
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise ValueError(
            "a template from a T1 alone needs scikit-learn; run pip install -e '.[demo]' in the clone"
        ) from None
    (image,) = read_canonical([t1])
    values = np.asarray(image.dataobj, dtype=np.float32)
    brain = values > 0
    if not 0 < brain.mean() < 0.6:
        raise ValueError(
            f"t1 must be a brain alone, 0 around it; {100 * brain.mean():.0f} % of the voxels of {t1} are above 0; strip "
            "the skull first"
        )
    inside = values[brain].astype(np.float64)[:, None]
    some = inside[:: -(-len(inside) // FITTED)]
    start = np.quantile(some, [0.1, 0.5, 0.9])[:, None]
    mixture = GaussianMixture(3, means_init=start, random_state=0).fit(some)
    order = np.argsort(mixture.means_.ravel())
    shares = mixture.predict_proba(inside)[:, order].astype(np.float32)
    images: list[Any] = [image]
    for share in shares.T[1:]:
        fraction = np.zeros_like(values)
        fraction[brain] = share
        images.append(nib.Nifti1Image(fraction, image.affine))
    return on_grid(images, spacing=spacing)
