"""Each method's loss against a loop over pixels, its gradient, and the running state of adaptive-risk by hand."""

import math

import numpy as np
import pytest
import torch

import transfer_risk as tr
from transfer_risk.losses import (
    class_weighted_loss,
    soft_dice_loss,
    transferability_weighted_loss,
)
from transfer_risk.methods import EFFECT, METHODS
from transfer_risk.objectives import Objective, mean_weights
from transfer_risk.samples import Samples

CLASSES = 3
SHAPES = {2: (5, 4), 3: (4, 3, 2)}
CASES = [
    {"method": "vanilla"},
    {"method": "class-weight"},
    {"method": "trs-map"},
    {"method": "trs-map", "exponential": True},
    {"method": "risk-map"},
    {"method": "risk-map", "divisor": "image", "base": 3.0},
    {"method": "risk-map", "divisor": "pixels", "clip": 20.0},
    {"method": "risk-map", "min_foreground": 0.9, "min_range": 1.5},
    {"method": "class-mean"},
    {"method": "class-mean", "divisor": "image"},
    {"method": "eep-risk"},
    {"method": "adaptive-risk"},
]
name = lambda options: "-".join(map(str, options.values()))  # noqa: E731


def make_samples(dims=2, *, cases=2, seed=0, patch=None):
    """Samples of random labels and transferability, some pixels ignored; one image has a small range of T."""
    rng = np.random.default_rng(seed)
    number = 3 if dims == 2 else 1
    images, labels, maps = [], [], []
    for _ in range(cases):
        shape = (number, *SHAPES[dims])
        y = rng.choice([-1, 0, 1, 2], shape, p=[0.1, 0.5, 0.2, 0.2])
        y[0].flat[:3] = 0, 1, 2
        t = -rng.exponential(2, shape)
        t[-1] *= 0.1 if dims == 2 else 1
        images.append(rng.normal(size=(number, 1, *SHAPES[dims])).astype(np.float32))
        labels.append(y.astype(np.int16))
        maps.append(np.where(y < 0, np.nan, t).astype(np.float32))
    ids = tuple(f"c{k}" for k in range(cases))
    return Samples(tuple(images), tuple(labels), tuple(maps), ids, patch or SHAPES[dims])


def double(batch):
    return type(batch)(
        batch.images, batch.labels, batch.transferability.double(), batch.cases, batch.places
    )


def make_logits(samples, batch, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(batch.labels), CLASSES, *batch.labels.shape[1:]))
    return torch.tensor(values, requires_grad=True)


def scale(samples, batch, recipe, b):
    """Lowest and highest T of what image b of the batch is scaled over, by numpy."""
    if recipe.extent == "image":
        values = batch.transferability[b].numpy()
    elif recipe.extent == "case":
        values = samples.transferability[int(batch.cases[b])].astype(float)
    else:
        values = np.concatenate([m.ravel() for m in samples.transferability]).astype(float)
    values = values[~np.isnan(values)]
    low = np.percentile(values, recipe.clip) if recipe.clip else values.min()
    return low, values.max()


def hardness(samples, batch, recipe, b, t):
    low, high = scale(samples, batch, recipe, b)
    if high - low <= 0 or high - low < recipe.min_range:
        return 0.0
    return min(max((high - t) / (high - low), 0.0), 1.0)


def pixels(batch):
    for place in np.ndindex(*batch.labels.shape):
        if batch.labels[place] >= 0:
            yield place, int(batch.labels[place])


def loop_weights(samples, batch, recipe, logits):
    """Weight of each valid pixel, one at a time, from the words of METHOD.md."""
    every = np.concatenate([y.ravel() for y in samples.labels])
    counts = [(every == k).sum() for k in range(CLASSES)]
    known = np.concatenate([m.ravel() for m in samples.transferability]).astype(float)
    first = np.nanpercentile(known, 1)
    weights = {}
    for place, y in pixels(batch):
        t = float(batch.transferability[place])
        h = hardness(samples, batch, recipe, place[0], t)
        weights[place] = {
            "vanilla": 1.0,
            "class-weight": sum(counts) / (CLASSES * counts[y]),
            "trs-map": math.exp(-max(t, first)) if recipe.exponential else 1 + h,
            "risk-map": recipe.base**h,
            "class-mean": recipe.base**h,
            "eep-risk": max(math.exp(t), 1e-4) ** (-1 / 3),
            "adaptive-risk": 1.0,
        }[recipe.method]
    if recipe.method == "class-mean":
        groups = {}
        for place, y in pixels(batch):
            groups.setdefault((place[0], y), []).append(weights[place])
        for place, y in pixels(batch):
            weights[place] = np.mean(groups[place[0], y])
    if recipe.method == "adaptive-risk":
        p = logits.detach().softmax(1)
        for place, y in pixels(batch):
            if y:
                overlap = sum(float(p[q[0], y][q[1:]]) for q, k in pixels(batch) if k == y)
                size = sum(float(p[q[0], y][q[1:]]) + (k == y) for q, k in pixels(batch))
                d = min(max(2 * overlap / size, 0.05), 0.98)
                weights[place] = (2 - d) / d
    return weights


def loop_loss(samples, batch, recipe, logits):
    weights = loop_weights(samples, batch, recipe, logits)
    z = logits.detach().numpy()
    terms = {}
    for place, y in pixels(batch):
        values = z[(place[0], slice(None), *place[1:])]
        terms[place] = weights[place] * (np.log(np.exp(values).sum()) - values[y])
    if recipe.method in ("class-weight", "eep-risk", "adaptive-risk"):
        return sum(terms.values()) / sum(weights.values())
    if recipe.method in ("vanilla", "trs-map") or recipe.divisor == "pixels":
        return sum(terms.values()) / len(terms)
    images = range(len(batch.labels)) if recipe.divisor == "image" else [None]
    means = []
    for b in images:
        own = {p: y for p, y in pixels(batch) if b is None or p[0] == b}
        foreground = sum(y > 0 for y in own.values())
        divisor = max(foreground, recipe.min_foreground * len(own)) if foreground else len(own)
        means.append(sum(terms[p] for p in own) / divisor)
    return np.mean(means)


@pytest.mark.filterwarnings("ignore:.* has no effect with")
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("extent", ["image", "case", "set"])
@pytest.mark.parametrize("options", CASES, ids=name)
def test_loss_equals_a_loop_over_pixels(options, extent, dims):
    samples = make_samples(dims)
    recipe = tr.Recipe(extent=extent, **options)
    batch = double(samples.batch(np.arange(len(samples))))
    logits = make_logits(samples, batch)
    made = Objective.of(recipe, samples, CLASSES).loss(logits, batch)
    assert made.item() == pytest.approx(loop_loss(samples, batch, recipe, logits), rel=1e-6)


def test_the_public_losses_are_those_that_are_trained_with():
    samples = make_samples()
    batch = samples.batch(np.arange(4))
    logits = make_logits(samples, batch).float()

    def made(**options):
        objective = Objective.of(tr.Recipe(**options), samples, CLASSES)
        return objective, objective.loss(logits, batch)

    objective, loss = made(method="class-weight")
    assert torch.equal(class_weighted_loss(logits, batch.labels, objective.class_weights), loss)
    _, loss = made(method="trs-map")
    span = tr.Span.of(batch.transferability, per_image=True)
    hardness = tr.RiskMap(batch.transferability, span).hardness
    assert torch.equal(transferability_weighted_loss(logits, batch.labels, hardness), loss)
    objective, loss = made(method="trs-map", exponential=True)
    clipped = batch.transferability.clamp(min=objective.least)
    own = transferability_weighted_loss(logits, batch.labels, transferability=clipped)
    assert torch.equal(own, loss)


@pytest.mark.parametrize("options", CASES, ids=name)
def test_loss_passes_gradcheck(options, monkeypatch):
    samples = make_samples(cases=1)
    batch = double(samples.batch(np.arange(2)))
    logits = make_logits(samples, batch)
    objective = Objective.of(tr.Recipe(dice_weight=0.5, **options), samples, CLASSES)
    objective.loss(logits, batch)
    monkeypatch.setattr(objective, "_remember", lambda *_: None)  # the weights are constants
    assert torch.autograd.gradcheck(lambda z: objective.loss(z, batch), logits)


def test_risk_of_one_with_pixels_is_cross_entropy():
    samples = make_samples()
    batch = double(samples.batch(np.arange(4)))
    logits = make_logits(samples, batch)
    objective = Objective.of(tr.Recipe(base=1.0, divisor="pixels"), samples, CLASSES)
    expected = torch.nn.functional.cross_entropy(logits, batch.labels, ignore_index=-1)
    torch.testing.assert_close(objective.loss(logits, batch), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_dice_weight_adds_soft_dice(method):
    samples = make_samples()
    batch = double(samples.batch(np.arange(4)))
    logits = make_logits(samples, batch)
    losses = []
    for weight in (0.0, 0.7):
        torch.manual_seed(0)  # class-shuffle draws
        recipe = tr.Recipe(method=method, dice_weight=weight)
        losses.append(Objective.of(recipe, samples, CLASSES).loss(logits, batch))
    torch.testing.assert_close(losses[1] - losses[0], 0.7 * soft_dice_loss(logits, batch.labels))


@pytest.mark.parametrize("method", METHODS)
def test_ignored_pixels_have_no_weight_and_no_gradient(method):
    samples = make_samples()
    batch = samples.batch(np.arange(4))
    logits = make_logits(samples, batch).float().detach().requires_grad_()
    objective = Objective.of(tr.Recipe(method=method, dice_weight=1.0), samples, CLASSES)
    objective.loss(logits, batch).backward()
    ignored = batch.labels < 0
    assert ignored.any() and (logits.grad.movedim(1, -1)[ignored] == 0).all()
    assert (objective.weights(batch)[ignored] == 0).all()


def test_the_running_state_of_adaptive_risk_by_hand():
    samples = make_samples()
    objective = Objective.of(tr.Recipe(method="adaptive-risk"), samples, 2)
    labels = torch.tensor([[1, 1, 0, -1]])
    one = samples.batch(np.array([0]))
    batch = type(one)(one.images, labels, None, one.cases, one.places)
    logits = torch.log(torch.tensor([[[0.2, 0.4, 0.9, 0.5], [0.8, 0.6, 0.1, 0.5]]]))
    objective.loss(logits, batch)
    overlap, size = 0.8 + 0.6, 0.8 + 0.6 + 0.1 + 2
    d = 2 * overlap / size  # 0.8
    assert objective.class_risks().tolist() == pytest.approx([1, (2 - d) / d], rel=1e-6)
    objective.loss(-logits, batch)  # p = 0.2, 0.4 on the class, 0.9 on background
    overlap, size = 0.95 * overlap + 0.05 * 0.6, 0.95 * size + 0.05 * (0.2 + 0.4 + 0.9 + 2)
    d = 2 * overlap / size
    assert objective.class_risks().tolist() == pytest.approx([1, (2 - d) / d], rel=1e-6)
    before = objective.overlap.clone()
    empty = type(one)(one.images, torch.zeros_like(labels), None, one.cases, one.places)
    objective.loss(logits, empty)
    assert torch.equal(objective.overlap[:, 1], before[:, 1])  # an absent class keeps its own


def test_samples_without_transferability_are_refused_where_it_is_needed():
    samples = make_samples()
    batch = samples.batch(np.array([0]))
    bare = type(batch)(batch.images, batch.labels, None, batch.cases, batch.places)
    objective = Objective.of(tr.Recipe(), samples, CLASSES)
    with pytest.raises(ValueError, match=r"method risk-map needs .*; collect the samples with"):
        objective.weights(bare)


def test_dice_of_adaptive_risk_is_clipped():
    objective = Objective.of(tr.Recipe(method="adaptive-risk"), make_samples(), 3)
    objective.overlap = torch.tensor([[1.0, 0.0, 5.0], [2.0, 9.0, 10.0]], dtype=torch.float64)
    assert objective.class_risks().tolist() == pytest.approx([1, 1.95 / 0.05, 1.02 / 0.98])


def test_patches_are_scaled_by_what_the_network_sees():
    samples = make_samples(3, patch=(2, 3, 2))
    assert not samples.whole and samples.spans("image", 0) is None
    batch = samples.batch(np.array([0, 1]), np.random.default_rng(0))
    risk = Objective.of(tr.Recipe(), samples, CLASSES).weights(batch)
    for values, own in zip(batch.transferability, risk, strict=True):
        valid = ~values.isnan()
        assert own[valid].max() == pytest.approx(10) and own[valid].min() == pytest.approx(1)
        assert values[valid][own[valid].argmax()] == values[valid].min()
    case = Objective.of(tr.Recipe(extent="case"), samples, CLASSES).weights(batch)
    assert case.max() <= 10 + 1e-5 and not torch.allclose(case, risk)


@pytest.mark.parametrize("patch", [None, (3, 3, 2)])
def test_mean_weights_are_those_of_all_training_pixels(patch):
    samples = make_samples(3, patch=patch)
    recipe = tr.Recipe(extent="set")
    objective = Objective.of(recipe, samples, CLASSES)
    made = mean_weights(objective, samples, CLASSES)
    sums = {k: [] for k in range(CLASSES)}
    for batch in samples.covering():
        for place, y in pixels(batch):
            low, high = scale(samples, batch, recipe, 0)
            sums[y].append(10 ** ((high - float(batch.transferability[place])) / (high - low)))
    assert made.tolist() == pytest.approx([np.mean(v) for v in sums.values()], rel=1e-5)
    assert sum(map(len, sums.values())) == sum((y >= 0).sum() for y in samples.labels)


OTHER = {
    "extent": "set",
    "clip": 20.0,
    "min_range": 9.0,
    "divisor": "pixels",
    "min_foreground": 0.9,
    "exponential": True,
}


@pytest.mark.filterwarnings("ignore:.* has no effect with")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("option", EFFECT)
def test_an_option_has_an_effect_on_the_methods_that_are_said_to_heed_it(method, option):
    samples = make_samples()
    batch = double(samples.batch(np.arange(4)))
    logits = make_logits(samples, batch).detach()
    values = []
    for options in ({}, {option: OTHER[option]}):
        torch.manual_seed(0)  # of class-shuffle
        objective = Objective.of(tr.Recipe(method=method, **options), samples, CLASSES)
        values.append(float(objective.loss(logits, batch)))
    assert (values[0] != values[1]) == (method in EFFECT[option])
