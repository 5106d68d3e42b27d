"""What a source, and those that it was fine-tuned from, were trained on."""

from dataclasses import replace
from types import SimpleNamespace

from blob_folder import make_source

import transfer_risk as tr
from transfer_risk.lineage import seen_cases, seen_note


def test_a_source_of_the_data_set_that_names_no_cases_may_have_seen_them():
    task, own = SimpleNamespace(root="/data/Dataset001_X", cases=()), "Dataset001_X"

    def note(trained):
        source = replace(make_source(), trained=trained)
        return seen_note(source, task, ["a"], "scored")

    assert note({"dataset": own, "folds": ["0"]}) == (
        "source source was trained on Dataset001_X too; whether on the scored cases is not known"
    )
    assert "trained on 1 of the 1 scored cases" in note({"dataset": own, "cases": ["a"]})
    for trained in ({}, {"dataset": "Dataset002_Y"}, {"dataset": own, "cases": ["b"]}):
        assert not note(trained)
        assert "trained on 1 of" in note(
            trained | {"ancestors": [{"dataset": own, "cases": ["a"]}]}
        )
        assert "is not known" in note(trained | {"ancestors": [{"dataset": own}]})
    both = {"dataset": own, "cases": ["a"], "ancestors": [{"dataset": own}]}
    assert note(both) == (
        "source source was trained on 1 of the 1 scored cases, and on Dataset001_X cases that are not known"
    )


def test_another_scan_of_a_patient_that_was_trained_on_was_seen():
    cases = [tr.Case(name, ("i",), group=name[0]) for name in ("p1", "p2", "q1")]
    task = SimpleNamespace(root="/data/Dataset001_X", cases=cases)
    source = replace(make_source(), trained={"dataset": "Dataset001_X", "cases": ["p1", "r1"]})
    assert seen_cases(source, task, ["p2", "q1", "r1"]) == ["p2", "r1"]
    assert "trained on 1 of the 2 mapped cases, or on others of their patients" in seen_note(
        source, task, ["p2", "q1"], "mapped"
    )
