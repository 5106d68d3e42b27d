"""A brain of concentric shells, where no template is installed."""

import numpy as np

from transfer_risk.phantom import Template


def ball_template(*, spacing=4.0, size=40):
    """A brain of concentric shells: fluid-filled centre, white matter, cortex, a rim of CSF."""
    grid = np.indices((size,) * 3) - (size - 1) / 2
    radius = np.sqrt((grid**2).sum(axis=0)) * spacing
    inside = radius < 70
    gm = ((radius > 55) & (radius < 67)).astype(np.float32)
    wm = ((radius > 12) & (radius <= 55)).astype(np.float32)
    csf = inside - gm - wm
    t1 = np.where(inside, 60 * csf + 160 * gm + 220 * wm, 0).astype(np.float32)
    return Template(t1, csf.astype(np.float32), gm, wm, np.diag([spacing] * 3 + [1.0]))
