"""Fixtures of several test files; a file's own fixture of the same name goes before them."""

import pytest
import torch
from blob_folder import make_source, write_dataset

import transfer_risk as tr


@pytest.fixture(autouse=True)
def same_numbers():
    """A test draws the same from torch's generator alone as among others."""
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path):
    """A data set, its tasks, and two sources on disk."""
    write_dataset(tmp_path / "data" / "Dataset001_Blobs")
    tr.write_tasks(tmp_path / "data", tmp_path / "tasks")
    for k in range(2):
        tr.save_source(make_source(name=f"s{k}", seed=k), tmp_path / f"s{k}")
    return tmp_path


@pytest.fixture(scope="module")
def one_thread():
    """Tiny tensors on many threads wait for each other: 30 times slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
