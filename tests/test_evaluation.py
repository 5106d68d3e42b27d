"""Measures of predictions against labels."""

import nibabel as nib
import numpy as np
import pytest
import torch
from blob_folder import save

import transfer_risk as tr
from transfer_risk.volumes import Volume


def test_evaluation_of_a_perfect_and_a_shifted_prediction(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")

    class Known(torch.nn.Module):
        """Says class by brightness, as the phantom was made without noise."""

        def forward(self, images):
            return -((images - torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1)) ** 2) * 50

    for case in task.cases:
        label = np.asarray(nib.load(case.label).dataobj)
        save(type(folder)(case.images[0]), label.astype(np.float32))
    source = tr.Source(
        "known",
        Known(),
        task.classes,
        task.channels,
        preprocessing=tr.Preprocessing(normalise="none"),
    )
    for row in tr.evaluate(source, task):
        assert (row.dice, row.hd95, row.recall, row.precision) == (1, 0, 1, 1)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_hd95_of_one_slice_is_that_of_an_image():
    from monai.metrics import compute_hausdorff_distance

    from transfer_risk.evaluation import measures

    label = np.zeros((140, 140), np.int16)
    label[20:120, 20:120] = 1
    far = label.copy()
    far[130:138, 130:138] = 1
    spacing = (1.5, 0.5)
    pair = [torch.from_numpy(m)[None, None].float() for m in (far, label)]
    expected = float(
        compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    )
    assert expected > 5
    for axis in range(3):
        at = [np.expand_dims(m, axis) for m in (far, label)]
        zooms = np.insert(np.array(spacing), axis, 7.0)
        volume = Volume(at[0][None].astype(np.float32), np.diag([*zooms, 1.0]), at[1])
        (found,) = measures("c", ("background", "a"), volume, at[0])
        assert found.hd95 == pytest.approx(expected)
