"""What a source.toml or a task file may say, value by value."""

import math
import tomllib
from dataclasses import replace

import pytest
import tomli_w
from blobs import make_source

import transfer_risk as tr


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"axis": 5}, "preprocessing.axis must be one of 0, 1, 2; got 5"),
        ({"axis": "2"}, "got '2'"),
        ({"axis": 2.0}, "got 2.0"),
        ({"axis": True}, "got True"),
        ({"orientation": 5}, "orientation must be three axis codes such as RAS; got 5"),
        ({"orientation": "RRS"}, "got 'RRS'"),
        ({"orientation": "ras"}, "got 'ras'"),
        ({"size": [16.0, 16.0]}, r"size must be positive whole numbers; got \(16.0, 16.0\)"),
        ({"size": [16, 0]}, "size must be positive whole numbers"),
        ({"size": 16}, "size must be positive whole numbers; got 16"),
        ({"spacing": [1, "2"]}, "spacing must be positive numbers"),
        ({"spacing": [1, math.nan]}, "spacing must be positive numbers"),
        ({"spacing": [-1.0, 1.0]}, "spacing must be positive numbers"),
        ({"overlap": "half"}, "overlap must be numbers"),
        ({"overlap": 1.0}, "overlap must be at least 0 and below 1"),
        ({"window": ["a", "b"], "normalise": "window"}, "window must be numbers"),
        (
            {"spacings": [1.0]},
            "preprocessing does not know spacings; it may have normalise, spacing",
        ),
    ],
)
def test_preprocessing_that_cannot_be_is_named(table, words):
    with pytest.raises(ValueError, match=words):
        tr.Preprocessing.of(table)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR", "PIR"])
def test_orientations_in_any_order_are_taken(orientation):
    assert tr.Preprocessing(orientation=orientation).orientation == orientation


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("axis = 2", "axis = 5", "preprocessing.axis must be one of 0, 1, 2; got 5"),
        ('name = "source"', "name = 5", "name must be text, in quotes; got 5"),
        ("format = 1", "format = 1\nlicence = 5", "licence must be text, in quotes; got 5"),
        ("format = 1", "format = 1\nencoder = 5", "encoder must be a regular expression; got 5"),
        ("format = 1", "format = 1\nlabels = {a = 40000}", "whole number of 16 bits"),
        ("[trained]", "[trained]\ncases = 5", "trained.cases must be a list; got 5"),
        (
            "[trained]",
            "[trained]\nancestors = [5]",
            "trained.ancestors must be a list of tables; got",
        ),
        (
            "[trained]",
            "[trained]\nancestors = [{cases = 5}]",
            "trained.ancestors.cases must be a list; got 5",
        ),
    ],
)
def test_a_source_that_cannot_be_is_named(tmp_path, old, new, words):
    path = tr.save_source(make_source(), tmp_path / "s") / "source.toml"
    text = "\n".join(
        line for line in path.read_text().splitlines() if not line.startswith("encoder =")
    )
    head, _, rest = text.partition("[labels]")
    if "labels" in new and rest:
        text = head + rest[rest.index("[") :]
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=words):
        tr.load_source(tmp_path / "s")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"wm",', '"gm",', "classes must be unique; gm is there more than once"),
        ('"T2",', '"T1",', "channels must be unique; T1 is there more than once"),
    ],
)
def test_names_that_a_source_has_twice_are_named(tmp_path, old, new, words):
    source = make_source(("background", "gm", "wm"))
    source = replace(source, network=tr.UNet(2, 3, width=4, depth=2), channels=("T1", "T2"))
    path = tr.save_source(source, tmp_path / "s") / "source.toml"
    text = path.read_text().partition("[labels]")[0] + '[network]\ntarget = "unet"\n'
    assert text.count(old) == 1
    path.write_text(text.replace(old, new) + "width = 4\ndepth = 2\n")
    with pytest.raises(ValueError, match=f"source.toml: {words}; give each"):
        tr.load_source(tmp_path / "s")
    path.write_text(text + "width = 4\ndepth = 2\n")
    assert tr.load_source(tmp_path / "s").channels == ("T1", "T2")


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ({}, (0, 1, 2)),
        ({"gm": 4}, (0, 4, 2)),
        ({"gm": 2, "wm": 1}, (0, 2, 1)),
        ({"wm": 3}, (0, 1, 3)),
        ({"background": 7, "gm": 0}, (7, 0, 2)),
    ],
)
def test_classes_without_a_label_are_written_as_their_place(labels, values):
    assert make_source(("background", "gm", "wm"), labels=labels).values == values


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"gm": 2}, "gm, wm would all be written as 2"),
        ({"gm": 5, "wm": 5}, "gm, wm would all be written as 5"),
        ({"wm": 0}, "background, wm would all be written as 0"),
    ],
)
def test_two_classes_are_never_written_as_one_value(tmp_path, labels, words):
    classes = ("background", "gm", "wm")
    with pytest.raises(
        ValueError, match=f"labels must give each class a value of its own; {words}"
    ):
        make_source(classes, labels=labels)
    path = tr.save_source(make_source(classes), tmp_path / "s") / "source.toml"
    table = "".join(f"{name} = {value}\n" for name, value in labels.items())
    head, _, rest = path.read_text().partition("[labels]\n")
    path.write_text(f"{head}[labels]\n{table}{rest}")
    with pytest.raises(ValueError, match=f"source.toml: labels must give .*{words}"):
        tr.load_source(tmp_path / "s")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"kind": "tuned", "offset": [0.0, 3.0]},
            "decision does not know offset; it may have kind",
        ),
        ({"offsets": [0.0, 9.0]}, r"none, or 0, where it is argmax; got \[0.0, 9.0\] for 'argmax'"),
        ({"kind": "argmax", "offsets": [0.0, 9.0]}, "none, or 0, where it is argmax"),
        ({"kind": "tuned"}, r"must be one for each class where .* tuned .*; got \[\] for 'tuned'"),
        ({"kind": "adjusted", "offsets": []}, r"got \[\] for 'adjusted'"),
        ({"kind": "tuned", "offsets": [0.0, math.nan]}, "decision.offsets must be numbers"),
        ({"kind": "tuned", "offsets": [0.0, math.inf]}, "decision.offsets must be numbers"),
        ({"kind": "tuned", "offsets": ["0", "3"]}, r"must be numbers; got \('0', '3'\)"),
        ({"kind": "tuned", "offsets": 3.0}, "decision.offsets must be numbers; got 3.0"),
        (
            {"kind": "tuned", "offsets": [0.0]},
            "decision.offsets must be one for each of the classes",
        ),
        ({"kind": "best"}, "decision.kind must be one of argmax, tuned, adjusted; got 'best'"),
    ],
)
def test_a_decision_that_cannot_be_is_named(tmp_path, table, words):
    path = tr.save_source(make_source(), tmp_path / "s") / "source.toml"
    path.write_text(tomli_w.dumps(tomllib.loads(path.read_text()) | {"decision": table}))
    with pytest.raises(ValueError, match=f"source.toml: .*{words}"):
        tr.load_source(tmp_path / "s")


@pytest.mark.parametrize(
    "decision",
    [tr.Decision(), tr.Decision("tuned", (0, 1.5)), tr.Decision("adjusted", (0.0, -1.0))],
)
def test_a_decision_is_read_as_it_was_written(tmp_path, decision):
    path = tr.save_source(make_source(decision=decision), tmp_path / "s")
    assert tr.load_source(path).decision == decision
