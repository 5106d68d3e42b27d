"""Training samples: transferability on the right grid and joint, padding, patches, few-shot subsets."""

import errno
import itertools
import os
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import SHAPE, make_source, write_blobs

import transfer_risk as tr
from transfer_risk import collecting as module
from transfer_risk.collecting import collect
from transfer_risk.prediction import predict_volume
from transfer_risk.samples import Samples
from transfer_risk.subsets import few_shot
from transfer_risk.volumes import read


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tr.load_task(write_blobs(tmp_path_factory.mktemp("blobs"), classes=("a", "b"), cases=8))


def predicted(source, task, cases):
    for case in cases:
        volume = read(case, task)
        theta = torch.from_numpy(predict_volume(source, volume).copy())[None]
        yield theta, torch.from_numpy(volume.labels)[None].long()


def test_transferability_is_that_of_the_native_grid(task):
    source, cases = make_source(), task.split("train")
    pairs = list(predicted(source, task, cases))
    joint = reduce(add, (tr.Joint.of(t, y, 3) for t, y in pairs))
    made = collect(source, cases, task, mapped=True)
    torch.testing.assert_close(made.joint.counts, joint.counts, rtol=1e-6, atol=1e-6)
    for (theta, y), own in zip(pairs, made.transferability, strict=True):
        expected = tr.log_expected_prediction(theta, y, joint)[0].movedim(-1, 0)
        torch.testing.assert_close(torch.from_numpy(np.array(own)), expected.float())
    assert not collect(source, cases, task, mapped=False).transferability


def test_the_joint_is_that_of_the_native_grid_after_resampling(task):
    source = make_source(preprocessing=tr.Preprocessing(spacing=(2.0, 0.7), orientation="LPS"))
    pairs = list(predicted(source, task, task.cases[:3]))
    joint = reduce(add, (tr.Joint.of(t, y, 3) for t, y in pairs))
    made = collect(source, task.cases[:3], task, mapped=True)
    torch.testing.assert_close(made.joint.counts, joint.counts, rtol=1e-5, atol=1e-5)
    bound = -np.log(joint.counts.shape[1] ** 2 * joint.num_pixels)
    for values in made.transferability:
        assert np.nanmin(values) >= bound - 1e-3 and np.nanmax(values) <= 1e-6


def test_each_channel_is_padded_with_its_own_air(task):
    """The second channel is the first without what is dark, so that its air lies elsewhere after a z-score."""

    def two_channels(source, case, task):
        volume = read(case, task)
        image = np.concatenate([volume.image, np.maximum(volume.image, 105)])
        return replace(volume, image=image), volume.labels

    preprocessing = tr.Preprocessing(normalise="zscore", size=(24, 20))
    network = tr.UNet(2, 3, width=4, depth=2).eval()
    source = replace(
        make_source(preprocessing=preprocessing, classes=task.classes),
        network=network,
        channels=("T1", "T2"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_for", two_channels)
        made = collect(source, task.cases[:2], task, mapped=False)
    for images in made.images:
        lowest = images.min((0, 2, 3))
        assert lowest[0] < lowest[1] - 0.5
        for c, low in enumerate(lowest):
            assert (images[:, c, :2] == low).all() and (images[:, c, :, -2:] == low).all()


def test_padding_never_counts(task):
    plain, wide = (
        make_source(preprocessing=tr.Preprocessing(size=size)) for size in ((), (24, 20))
    )
    small, large = (collect(s, task.cases[:2], task, mapped=True) for s in (plain, wide))
    assert large.patch == (24, 20) and large.whole
    assert torch.equal(small.class_counts(3), large.class_counts(3))
    assert large.joint.num_pixels == pytest.approx(small.joint.num_pixels, rel=1e-6)
    inside = np.s_[:, 4:20, 4:16]
    for y, values in zip(large.labels, large.transferability, strict=True):
        assert np.isnan(values[y < 0]).all()
        assert (np.delete(y, range(4, 20), 1) == -1).all() and (y[inside] >= 0).all()


def test_slices_larger_than_the_network_sees_are_drawn_in_patches(task):
    source = make_source(preprocessing=tr.Preprocessing(size=(8, 8)))
    made = collect(source, task.cases[:2], task, mapped=True)
    assert not made.whole and made.labels[0].shape[1:] == SHAPE[:2]
    starts = set()
    for seed in range(30):
        batch = made.draw(4, np.random.default_rng(seed))
        assert batch.images.shape == (4, 1, 8, 8) and batch.labels.shape == (4, 8, 8)
        for k, place in enumerate(batch.places.tolist()):
            case, row = made._row(place)
            found = [
                (a, b)
                for a in range(SHAPE[0] - 7)
                for b in range(SHAPE[1] - 7)
                if np.array_equal(
                    made.images[case][row][:, a : a + 8, b : b + 8], batch.images[k].numpy()
                )
            ]
            assert len(found) == 1
            a, b = found[0]
            starts.add((a, b))
            window = np.s_[a : a + 8, b : b + 8]
            np.testing.assert_array_equal(made.labels[case][row][window], batch.labels[k].numpy())
            np.testing.assert_array_equal(
                made.transferability[case][row][window], batch.transferability[k].numpy()
            )
    assert len(starts) > 20


def test_covering_patches_hold_every_pixel(task):
    source = make_source(preprocessing=tr.Preprocessing(size=(7, 5)))
    made = collect(source, task.cases[:1], task, mapped=False)
    one = list(made.covering())
    assert len(one) == SHAPE[2] * 3 * 3  # ceil(16 / 7) x ceil(12 / 5)
    for size in (1, 4, 1000):
        batches = list(made.covering(size))
        assert sum(int((b.labels >= 0).sum()) for b in batches) == int(np.prod(SHAPE))
        assert torch.equal(
            torch.cat([b.images for b in batches]), torch.cat([b.images for b in one])
        )
        counts = sum(np.bincount(b.labels[b.labels >= 0], minlength=3) for b in batches)
        assert counts.tolist() == made.class_counts(3).tolist()


@pytest.mark.parametrize(("cases", "size"), [(8, 8), (6, 1), (5, 3)])
def test_half_of_the_patches_are_on_foreground_whichever_case_they_are_of(cases, size):
    labels = np.zeros((1, 15, 15, 15), dtype=np.int16)
    labels[0, 7, 7, 7] = 1  # a random patch holds it once in 49
    made = Samples(
        images=(np.zeros((1, 1, 15, 15, 15), dtype=np.float32),) * cases,
        labels=(labels,) * cases,
        transferability=(),
        ids=tuple(map(str, range(cases))),
        patch=(3, 3, 3),
    )
    found, drawn, rng = np.zeros(cases), np.zeros(cases), np.random.default_rng(0)
    for _ in range(2400 // size):
        batch = made.draw(size, rng)
        np.add.at(found, batch.cases.numpy(), batch.labels.flatten(1).amax(1).numpy())
        np.add.at(drawn, batch.cases.numpy(), 1)
    assert found / drawn == pytest.approx(0.5, abs=0.1)


class Constant(torch.nn.Module):
    """Takes volumes of any size."""

    def forward(self, images):
        return torch.cat([images, -images], 1)


def volumetric(**preprocessing):
    return tr.Source(
        "c",
        Constant(),
        ("background", "a"),
        ("T1",),
        spatial_dims=3,
        preprocessing=tr.Preprocessing(**preprocessing),
    )


@pytest.mark.parametrize("mapped", [False, True])
def test_a_case_whose_labelled_slices_fall_between_those_seen_is_left_out_with_a_word(task, mapped):
    source = volumetric(spacing=(1.0, 1.0, 5.0))
    first, second = task.cases[:2]
    between = replace(first, slices=(0,))  # of five slices it sees the second and the fourth
    with pytest.warns(UserWarning, match=f"case {first.id}: is left out .* coarser spacing"):
        made = collect(source, [between, second], task, mapped=mapped)
    whole = collect(source, [second], task, mapped=mapped)
    assert made.ids == whole.ids == (second.id,) and len(made.transferability) == mapped
    np.testing.assert_array_equal(made.labels[0], whole.labels[0])
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="selects no training slice"):
        collect(source, [between], task, mapped=mapped)


def test_volumes_give_patches(task):
    source = volumetric(size=(5, 5, 3))
    made = collect(source, task.cases[:3], task, mapped=True)
    assert len(made) == 3 and made.images[0].shape == (1, 1, *SHAPE)
    batch = made.draw(6, np.random.default_rng(0))
    assert batch.images.shape == (6, 1, 5, 5, 3)


def test_spans_of_image_case_and_set(task):
    made = collect(make_source(), task.cases[:3], task, mapped=True)
    maps = [np.array(m) for m in made.transferability]
    image = made.spans("image", 0)
    assert image.low.tolist() == [np.nanmin(s) for m in maps for s in m]
    case = made.spans("case", 0)
    assert case.low.tolist() == [np.nanmin(m) for m in maps for _ in m]
    clipped = made.spans("case", 10)
    expected = [np.nanpercentile(m, 10) for m in maps for _ in m]
    np.testing.assert_allclose(clipped.low.numpy(), expected, rtol=1e-5)
    whole = made.spans("set", 0)
    assert whole.low == min(map(np.nanmin, maps)) and whole.high == max(map(np.nanmax, maps))


def test_a_map_of_another_source_is_not_needed_for_the_samples(task):
    order = make_source()
    wide = replace(order, channels=("T2", "T1"), network=tr.UNet(2, 2, width=2, depth=2))
    with pytest.raises(ValueError, match=r"wants the channels \['T2', 'T1'\]"):
        collect(wide, task.cases[:1], task, mapped=False)


def test_a_full_temporary_folder_is_named(task, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(OSError, match="set TMPDIR to a folder with more space"):
        collect(make_source(), task.cases[:1], task, mapped=False)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux")
def test_open_files_do_not_grow_with_the_cases(task):
    before = len(os.listdir("/proc/self/fd"))
    cases = [replace(c, id=f"{c.id}_{k}") for c in task.cases for k in range(20)]
    samples = collect(make_source(), cases, task, mapped=True)
    assert len(samples.ids) == len(cases) > 60
    assert len(os.listdir("/proc/self/fd")) - before <= 6


def test_few_cases_are_nested_by_seed(task):
    for seed in range(5):
        ids = [
            {c.id for c in few_shot(task, tr.Recipe(n_cases=n, seed=seed))[0]} for n in (1, 2, 4, 0)
        ]
        assert [len(i) for i in ids] == [1, 2, 4, len(task.split("train"))]
        assert all(a <= b for a, b in itertools.pairwise(ids))
    chosen = {
        tuple(c.id for c in few_shot(task, tr.Recipe(n_cases=2, seed=s))[0]) for s in range(8)
    }
    assert len(chosen) > 1


def test_few_cases_of_groups_are_nested_with_validation_too(task):
    cases = tuple(replace(task.cases[0], id=f"c{k}", group=f"g{k // 3}") for k in range(24))
    grouped = replace(task, cases=cases, test=())
    for seed in range(20):
        recipes = [
            tr.Recipe(n_cases=n, validation=0.2, seed=seed, decision="tuned")
            for n in (*range(3, 25), 0)
        ]
        made = [few_shot(grouped, recipe) for recipe in recipes]
        assert [len(a) + len(b) for a, b in made] == [*range(3, 25), 24]
        for part in zip(*made, strict=True):  # training, validation
            ids = [{c.id for c in cases} for cases in part]
            assert ids[0] and all(a <= b for a, b in itertools.pairwise(ids))
        training, validation = made[-1]
        assert not {c.group for c in training} & {c.group for c in validation}
        assert len({c.group for c in made[2][0]}) > 1  # four cases are not all of one group


def test_few_slices_are_nested_by_seed_and_the_joint_uses_them_alone(task):
    for seed in range(3):
        sets = []
        for n in (3, 9, 20):
            cases = few_shot(task, tr.Recipe(n_slices=n, seed=seed))[0]
            sets.append({(c.id, k) for c in cases for k in c.slices})
            assert len(sets[-1]) == n
        assert sets[0] < sets[1] < sets[2]
    cases = few_shot(task, tr.Recipe(n_slices=3))[0]
    made = collect(make_source(), cases, task, mapped=True)
    pixels = 3 * SHAPE[0] * SHAPE[1]
    assert len(made) == 3 and made.joint.num_pixels == pytest.approx(pixels, rel=1e-6)
    assert float(made.class_counts(3).sum()) == pixels


def test_validation_keeps_groups_together(task):
    cases = tuple(replace(c, group=f"g{k // 2}") for k, c in enumerate(task.cases))
    grouped = replace(task, cases=cases, test=())
    for seed in range(6):
        training, validation = few_shot(
            grouped, tr.Recipe(validation=0.25, seed=seed, decision="tuned")
        )
        assert len(validation) == 2 and len(training) == 6
        assert not {c.group for c in training} & {c.group for c in validation}
    plain = few_shot(task, tr.Recipe(validation=0.2, decision="tuned"))
    assert len(plain[1]) == 1 and not {c.id for c in plain[0]} & {c.id for c in plain[1]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_cases": 99}, r"n_cases must be at most the 6 training cases .* got 99"),
        ({"n_slices": 999}, r"n_slices must be at most the 30 training slices .* got 999"),
        ({"validation": 0.01}, "leaves 6 for training and 0 for validation"),
        ({"validation": 0.5, "n_cases": 1}, "choose another share"),
    ],
)
def test_asking_for_more_than_there_is_is_refused(task, options, words):
    assert len(task.split("train")) == 6
    with pytest.raises(ValueError, match=words):
        few_shot(task, tr.Recipe(decision="tuned", **options))


def test_a_selection_without_slices_is_refused(task):
    nothing = replace(task.cases[0], slices=())
    with pytest.raises(ValueError, match="selects no training slice"):
        collect(make_source(), [nothing], task, mapped=False)
