"""Source and target cohorts: other subjects, another scanner, the same seeds as the cohorts alone."""

import nibabel as nib
import numpy as np
import pytest

import transfer_risk as tr

TEMPLATE = {"spacing": 8.0}


@pytest.mark.parametrize("anatomy", ["tissue", "tumour"])
def test_source_and_target_are_the_cohorts_of_their_seeds_and_institutions(tmp_path, anatomy):
    template = tr.load_template(**TEMPLATE)
    source, target = tr.write_source_and_target(
        tmp_path / "pair", anatomy=anatomy, cases=2, seed=4, template=template
    )
    write = tr.write_tissue_cohort if anatomy == "tissue" else tr.write_tumour_cohort
    labels = []
    for cohort, seed, institution, prefix in ((source, 5, 1, "source"), (target, 4, 0, "target")):
        alone = write(
            tmp_path / prefix,
            cases=2,
            seed=seed,
            template=template,
            institution=institution,
            prefix=prefix,
        )
        for name in (f"imagesTr/{prefix}_001_0000.nii.gz", f"labelsTr/{prefix}_001.nii.gz"):
            pair = [np.asarray(nib.load(folder / name).dataobj) for folder in (cohort, alone)]
            np.testing.assert_array_equal(*pair)
        labels.append(pair[0])
    assert not np.array_equal(*labels)  # no subject is in both


def test_a_cohort_that_is_there_is_kept(tmp_path):
    template = tr.load_template(**TEMPLATE)
    source, _ = tr.write_source_and_target(tmp_path, cases=1, template=template)
    (source / "note").write_text("mine")
    tr.write_source_and_target(tmp_path, cases=2, template=template)
    assert (source / "note").read_text() == "mine"


def test_an_unknown_anatomy(tmp_path):
    with pytest.raises(ValueError, match="anatomy must be one of tissue, tumour; got 'knee'"):
        tr.write_source_and_target(tmp_path, anatomy="knee")


def test_a_task_on_some_of_its_channels(tmp_path):
    folder = tr.write_tumour_cohort(tmp_path, cases=3, template=tr.load_template(**TEMPLATE))
    task = tr.load_task(tr.write_tasks(folder, tmp_path / "tasks")[0])
    some = task.on_channels("FLAIR", "T1")
    assert some.channels == ("FLAIR", "T1") and not some.path
    assert some.cases[0].images == (task.cases[0].images[2], task.cases[0].images[0])
    with pytest.raises(ValueError, match=r"channels must be among \['T1', 'T2', 'FLAIR'\]"):
        task.on_channels("CT")
