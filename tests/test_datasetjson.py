"""dataset.json says the same to whoever reads it: a folder of labelled cases, a trained model, saved probabilities."""

import json
from pathlib import Path

import pytest
from folders import nnunet

import transfer_risk as tr
from transfer_risk.adapters.nnunet.plans import labels_of
from transfer_risk.datasetjson import labels_in, numbered
from transfer_risk.files import read_json

FILE = Path("dataset.json")
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}


def test_classes_are_in_the_order_of_their_values_and_numbers_may_be_texts():
    labels = labels_in({"labels": {"b": "2", "bg": [0], "a": [1.0], "ignore": 3}}, FILE)
    assert list(labels.values.items()) == [("a", (1,)), ("b", (2,))]
    assert (labels.ignore, labels.regions, labels.order) == ((3,), False, ())


def test_regions_are_in_the_order_of_the_file_and_a_model_must_say_what_they_are_written_as():
    description = {"labels": REGIONS}
    assert list(labels_in(description, FILE).values.items()) == [("whole", (1, 2)), ("core", (2,))]
    with pytest.raises(ValueError, match=r"regions_class_order must have 2 values, .* it is \[\]"):
        labels_of(description, FILE)
    assert labels_of(description | {"regions_class_order": [1, 2]}, FILE) == (
        {"whole": 1, "core": 2},
        True,
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"labels": {"a": 1.5}}, "the value of class 'a' must be a whole number; got 1.5"),
        ({"labels": {"a": 1, "ignore": "x"}}, "the value of ignore in labels must be a whole"),
        (
            {"labels": REGIONS, "regions_class_order": [1, None]},
            "a value of regions_class_order must be a whole number; got null",
        ),
    ],
)
def test_a_value_that_is_no_whole_number_is_named_by_every_reader(tmp_path, more, words):
    with pytest.raises(ValueError, match=f"dataset.json: {words}"):
        labels_of(more, FILE)
    with pytest.raises(ValueError, match=f"dataset.json: {words}"):
        tr.write_tasks(nnunet(tmp_path / "data", more=more), tmp_path / "tasks")


def test_channels_are_in_the_order_of_their_numbers():
    names = {str(k): f"c{k}" for k in (10, 9, 0)}
    assert numbered(names, FILE, "modality") == ("c0", "c9", "c10")
    with pytest.raises(ValueError, match=r"number of a channel in modality must be .* got \"x\""):
        numbered({"x": "T1"}, FILE, "modality")


def test_a_file_that_is_missing_or_no_json_is_named_with_what_to_do(tmp_path):
    file = tmp_path / "a.json"
    for content, words in ((None, "no such file"), ("{", r"is no readable JSON \(.*\)")):
        if content:
            file.write_text(content)
        with pytest.raises(ValueError, match=rf"a\.json: {words}; copy it$"):
            read_json(file, remedy="copy it")
    with pytest.raises(ValueError, match=r"JSON \(.*\)$"):
        read_json(tmp_path)
    file.write_text(json.dumps({"ä": [1]}))
    assert read_json(file) == {"ä": [1]}
