"""Adapting and freezing a network: what is loaded, replaced, frozen, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from blobs import RESIDUAL, make_source, reordered, write_blobs, write_monai
from torch import nn

import transfer_risk as tr
from transfer_risk.classes import class_note, class_numbers, matched_classes, shared_classes
from transfer_risk.evaluation import predicted_classes, predicted_names
from transfer_risk.heads import (
    adapted_source,
    freeze,
    head_name,
    training_mode,
)
from transfer_risk.loadreport import load_report
from transfer_risk.prediction import decide, predict_case
from transfer_risk.training import untrained
from transfer_risk.volumes import read


def adapted(source, number, **options):
    classes = ("background", *(f"class {k}" for k in range(1, number)))
    return adapted_source(
        source, classes, **{"head": "auto", "scratch": False, "seed": 0} | options
    )


def same(a, b):
    return a.shape == b.shape and torch.equal(a, b)


def test_a_head_is_kept_where_the_numbers_of_classes_agree():
    source = make_source()
    made, kept = adapted(source, 2)
    old, new = source.network.state_dict(), made.network.state_dict()
    assert kept and all(same(old[n], new[n]) for n in old)
    assert made.network is not source.network
    report = load_report(source, made.network)
    assert len(report.loaded) == len(old) and not report.replaced and not report.left


@pytest.mark.parametrize(("classes", "head"), [(4, "auto"), (4, "new"), (2, "new"), (4, "probe")])
def test_a_new_head_leaves_everything_else(classes, head):
    source = make_source()
    made, kept = adapted(source, classes, head=head)
    again, _ = adapted(source, classes, head=head)
    other, _ = adapted(source, classes, head=head, seed=1)
    assert not kept and made.activation == "softmax"
    assert made.network(torch.zeros(1, 1, 8, 8)).shape == (1, classes, 8, 8)
    report = load_report(source, made.network)
    assert {n.partition(" ")[0] for n in report.replaced} == {"head.weight", "head.bias"}
    assert same(made.network.head.weight, again.network.head.weight)
    assert not same(made.network.head.weight, other.network.head.weight)
    assert source.network.head.out_channels == 2
    assert "head.weight" in str(report) and "trainable" in str(report)


def test_random_weights_are_all_new_and_all_trained():
    source = make_source()
    made, kept = adapted(source, 2, scratch=True, seed=1)
    report = load_report(source, made.network, scratch=True)
    assert kept and not report.loaded and not report.frozen
    assert not same(source.network.encoder[0][0].weight, made.network.encoder[0][0].weight)


def test_a_network_of_monai_with_a_residual_head_is_built_again(tmp_path):
    source = tr.load_source(
        write_monai(tmp_path / "m", "UNet", RESIDUAL, spatial_dims=2, size=(16, 16))
    )
    made, kept = adapted(source, 4)
    assert not kept and made.architecture["arguments"]["out_channels"] == 4
    assert made.network(torch.zeros(1, 1, 16, 16)).shape == (1, 4, 16, 16)
    report = load_report(source, made.network)
    assert report.loaded and all(n.startswith("model.2.") for n in report.replaced)
    tr.save_source(replace(made, classes=tuple("wxyz")), tmp_path / "saved")
    again = tr.load_source(tmp_path / "saved")
    assert all(same(t, made.network.state_dict()[n]) for n, t in again.network.state_dict().items())
    plain = replace(source, architecture={})
    with pytest.raises(
        ValueError, match=r"for 4 classes its network does not work .* can be built"
    ):
        adapted(plain, 4)
    assert adapted(plain, 2, head="new")[0].activation == "softmax"


def test_one_sigmoid_channel_becomes_a_softmax_head():
    source = replace(
        make_source(("background",)), classes=("background", "a"), activation="sigmoid"
    )
    assert adapted(source, 2)[0].activation == "sigmoid"
    made, kept = adapted(source, 2, head="new")
    assert not kept and made.activation == "softmax"
    assert made.network(torch.zeros(1, 1, 8, 8)).shape[1] == 2
    scratch = adapted(source, 3, scratch=True)[0]
    assert scratch.activation == "softmax" and scratch.network.head.out_channels == 3


class Product(torch.nn.Module):
    """Logits that are no layer's output."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 5, 1)

    def forward(self, images):
        return self.first(images)[:, :2]


class Own(torch.nn.Module):
    """A parameter without a way to draw it again."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1, 2, 1, 1))

    def forward(self, images):
        return images * self.scale


def source_of(network):
    return tr.Source("own", network, ("background", "a"), ("T1",))


def test_what_cannot_be_adapted_is_refused():
    source = make_source()
    with pytest.raises(ValueError, match=r"head keep needs as many classes .* Use --head new"):
        adapted(source, 3, head="keep")
    with pytest.raises(ValueError, match="last layer first has 5 outputs for 2 classes"):
        adapted(source_of(Product()), 3)
    with pytest.raises(ValueError, match=r"\(Own\) shows no layers"):
        adapted(source_of(Own()), 3)
    with pytest.raises(ValueError, match="part Own has no reset_parameters"):
        adapted(source_of(Own()), 2, scratch=True)
    with pytest.raises(ValueError, match="nothing but saved probabilities"):
        adapted(replace(source, stored=lambda _: None), 2)


def test_a_network_that_cannot_take_the_probing_image_is_named(tmp_path):
    class Even(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 2, 1)

        def forward(self, images):
            return self.first(images)

    with pytest.raises(ValueError, match=r"source own: its network cannot work on images"):
        head_name(Even(), source_of(Even()))


def test_freezing_by_expression():
    network = make_source().network
    freeze(network, r"^encoder\.")
    assert {n.partition(".")[0] for n, p in network.named_parameters() if p.requires_grad} == {
        "up",
        "decoder",
        "head",
    }
    with pytest.raises(
        ValueError, match=r"'nothing' matches no parameter; .* encoder, up, decoder"
    ):
        freeze(network, "nothing")
    with pytest.raises(ValueError, match="matches every parameter; nothing would be trained"):
        freeze(network, ".")


def test_a_shared_parameter_is_frozen_by_any_of_its_names():
    network = torch.nn.Module()
    network.decoder = torch.nn.Module()
    network.decoder.encoder = torch.nn.Conv2d(1, 1, 1)
    network.encoder = network.decoder.encoder
    network.decoder.last = torch.nn.Conv2d(1, 1, 1)
    freeze(network, r"^encoder\.")
    assert not network.encoder.weight.requires_grad and network.decoder.last.weight.requires_grad


def test_frozen_norms_and_dropout_stand_still():
    part = lambda: torch.nn.Sequential(  # noqa: E731
        torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1), torch.nn.Dropout()
    )
    network = torch.nn.ModuleDict({"encoder": part(), "decoder": part()})
    freeze(network, r"^encoder\.")
    training_mode(network)
    assert not any(m.training for m in network.encoder.modules())
    assert all(m.training for m in network.decoder.modules())


def test_a_model_with_the_classes_in_another_order_is_the_same_model(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, classes=("a", "b", "c")))
    source = make_source(task.classes)
    turned = reordered(source, [0, 3, 1, 2])
    recipe = tr.Recipe(method="vanilla", iterations=3, batch=2)
    assert tr.evaluate(turned, task) == tr.evaluate(source, task)
    one, other = (tr.finetune(s, task, recipe) for s in (source, turned))
    assert one.classes == other.classes == task.classes
    assert tr.evaluate(one, task) == tr.evaluate(other, task)
    assert same(turned.network.head.bias, source.network.head.bias[[0, 3, 1, 2]])  # not changed
    others = replace(turned, classes=("background", "x", "y", "z"))
    assert tr.evaluate(others, task) != tr.evaluate(source, task)  # class k is class k


def test_classes_in_another_order_that_no_head_can_be_put_into_are_refused(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, classes=("a", "b")))
    source = make_source(("background", "b", "a"))
    network = nn.Sequential(source.network, nn.Softmax(1))
    source = replace(source, network=network, activation="none", encoder="")
    with pytest.raises(ValueError, match=r"classes in another order .background, b, a, not backgr"):
        tr.finetune(source, task, tr.Recipe(method="vanilla", freeze="none", iterations=1))


SHARED = ("background", "wm", "csf")


@pytest.mark.parametrize("kind", ["2d", "3d", "saved maps"])
def test_classes_that_are_shared_in_part_count_by_name(tmp_path, kind):
    task = tr.load_task(write_blobs(tmp_path, classes=("gm", "wm"), shape=(16, 12, 8)))
    case = task.split("train")[0]
    if kind == "3d":
        path = tmp_path / "m"
        deep = {**RESIDUAL, "spatial_dims": 3, "out_channels": 3}
        write_monai(path, "UNet", deep, spatial_dims=3, size=(8, 8, 8), classes=SHARED)
        source = tr.load_source(path)
    else:
        source = make_source(SHARED)
    if kind == "saved maps":
        theta = np.random.default_rng(0).dirichlet(np.ones(3), (16, 12, 8))
        theta = np.moveaxis(theta, -1, 0).astype(np.float32)
        source = replace(source, stored=lambda _: theta)
    volume = read(case, task, every_slice=True)
    own = decide(source, predict_case(source, case, volume))
    made = predicted_classes(source, task, case, volume)
    names = predicted_names(source, task)
    assert names == ("background", "gm", "wm", "csf")
    np.testing.assert_array_equal(np.array(names)[made], np.array(SHARED)[own])
    gm, wm = tr.evaluate(source, task, cases=[case], distances=False)
    assert math.isnan(gm.dice) and math.isnan(gm.recall) and math.isnan(gm.precision)
    a, b = own == 1, volume.labels == 2
    assert wm.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    rows = tr.score(source, task, cases=[case]).per_case
    assert wm.dice == pytest.approx(next(v for _, score, _, v in rows if score == "dice"))


def test_sources_without_a_shared_class_keep_their_numbers_only_where_they_are_as_many(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, classes=("gm", "wm")))
    assert predicted_names(make_source(("background", "x", "y")), task) == ("background", "x", "y")
    assert class_numbers("bxyz", "bgw") == ([0, 3, 4, 5], ("b", "g", "w", "x", "y", "z"))
    with pytest.raises(ValueError, match="only a source of some of the task's classes can be"):
        tr.evaluate(make_source(("background", "x", "y", "z")), task)


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, False), ({"head": "keep"}, True), ({"init": "random"}, False)],
    ids=str,
)
def test_a_head_of_classes_that_are_shared_in_part_is_not_kept_as_it_is(tmp_path, options, kept):
    task = tr.load_task(write_blobs(tmp_path, classes=("gm", "wm")))
    source = make_source(SHARED)
    student, head = untrained(source, task, tr.Recipe(**options))
    assert head == kept and student.classes == task.classes
    report = load_report(source, student.network, scratch="init" in options)
    assert any("head.weight" in name for name in report.replaced)
    if kept:  # wm is wm; csf stands where gm was wanted
        assert same(student.network.head.bias, source.network.head.bias[[0, 2, 1]])


@pytest.mark.parametrize(("head", "classes"), [("new", 2), ("probe", 2), ("auto", 3)])
def test_a_new_head_before_a_softmax_of_the_networks_own_is_refused(head, classes):
    source = make_source()
    network = nn.Sequential(source.network, nn.Softmax(1))
    source = replace(source, network=network, activation="none")
    with pytest.raises(ValueError, match=r"a softmax or sigmoid of its own .activation none"):
        adapted(source, classes, head=head)
    assert adapted(source, 2)[1]


def test_capital_letters_do_not_part_names_and_a_position_is_told():
    own, wanted = ("Background", "WM", "GM"), ("background", "gm", "wm")
    assert matched_classes(own, wanted) == shared_classes(own, wanted) == {1: 2, 2: 1}
    assert (
        class_note("s", own, wanted)
        == class_note("s", "bx", "by")
        == class_note("s", "bx", "byz")
        == ""
    )
    assert class_note("s", ("b", "x", "y"), wanted) == (
        "source s counts its classes ['x', 'y'] as the task's ['gm', 'wm'] by position"
    )


@pytest.mark.parametrize("classes", [("gm", "background"), ("gm", "wm", "Background")])
def test_background_must_be_a_sources_first_class(classes):
    with pytest.raises(
        ValueError, match=r"classes must have .ackground first, as the network's first"
    ):
        make_source(classes)
