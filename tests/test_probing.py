"""The probe against scikit-learn, and what it does to a head and to a ranking."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import transfer_risk as tr
from transfer_risk import probes, probing
from transfer_risk.adapters.nnunet.network import Folds
from transfer_risk.collecting import collect
from transfer_risk.heads import head_name
from transfer_risk.probes import Pixels, fitted, pixels_of, recalibrate
from transfer_risk.probing import _measured, probe_scores, probed
from transfer_risk.reports import ranking_text
from transfer_risk.training import begin

CLASSES = ("background", "a", "b")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("probing")
    template = tr.load_template(spacing=8.0)
    tr.write_tissue_cohort(root, cases=6, template=template)
    return tr.load_task(tr.write_tasks(root, root / "tasks", binary=True)[2])


def make_source(seed=0, classes=("background", "csf")):
    torch.manual_seed(seed)
    network = tr.UNet(1, len(classes), width=4, depth=2)
    return tr.Source(f"s{seed}", network, classes, ("T1",), encoder=r"^encoder\.")


@pytest.fixture(scope="module")
def trained(task):
    """A small model of CSF on other subjects: its features are of use, its head is not."""
    tasks = tr.write_tasks(task.root, task.root + "/tasks", binary=True)
    return tr.pretrain(tr.load_task(tasks[0]), width=4, depth=2, iterations=60)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_that_of_scikit_learn(seed):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    features = rng.normal(size=(400, 5)) * [1, 2, 0.5, 3, 1] + 1
    labels = (features @ rng.normal(size=(5, 3)) + rng.normal(size=(400, 3))).argmax(1)
    importance = rng.uniform(0.5, 2, 400)
    pixels = Pixels(
        *(torch.from_numpy(a) for a in (features.astype(np.float32), labels)),
        torch.from_numpy(importance.astype(np.float32)),
    )
    weight, bias = fitted(pixels, 3, torch.ones(3))
    standard = (features - features.mean(0)) / features.std(0, ddof=1)
    reference = LogisticRegression(C=1 / (2 * 1e-3), tol=1e-8, max_iter=1000)
    reference.fit(standard, labels, sample_weight=importance / importance.sum())
    own = (pixels.features @ weight.T + bias).softmax(1).numpy()
    np.testing.assert_allclose(own, reference.predict_proba(standard), atol=5e-3)


def test_class_weights_count_as_repeated_pixels():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 2, generator=generator), torch.arange(60) % 2
    features[labels == 1] += 1
    twice = [torch.cat([t, t[labels == 1]]) for t in (features, labels, torch.ones(60))]
    mean, spread = features.mean(0), features.std(0)
    standard = [(f - mean) / spread for f in (features, twice[0])]
    weighted = fitted(Pixels(standard[0], labels, torch.ones(60)), 2, torch.tensor([1.0, 2.0]))
    repeated = fitted(Pixels(standard[1], *twice[1:]), 2, torch.ones(2))
    logits = [standard[0] @ w.T + b for w, b in (weighted, repeated)]
    torch.testing.assert_close(*(x.softmax(1) for x in logits), atol=2e-2, rtol=0)


@pytest.mark.parametrize("method", ["vanilla", "adaptive-risk", "eep-risk"])
def test_a_probed_head_starts_better_than_the_kept_one(task, trained, method):
    source = trained
    dice = {}
    for head in ("keep", "probe"):
        start = begin(source, task, tr.Recipe(method=method, head=head))
        start.student.network.eval()
        dice[head] = tr.evaluate(start.student, task, cases=start.training, distances=False)
    mean = {head: np.nanmean([m.dice for m in rows]) for head, rows in dice.items()}
    assert mean["probe"] > mean["keep"] + 0.2
    for old, new in zip(
        source.network.encoder.state_dict().values(),
        start.student.network.encoder.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(old, new)


def test_the_probe_is_seeded(task):
    starts = [begin(make_source(), task, tr.Recipe(head="probe", seed=3)) for _ in range(2)]
    assert torch.equal(*(s.student.network.head.weight for s in starts))


def test_probe_dice_tells_a_trained_source_from_a_random_one(task, trained):
    cases = task.split("train")
    found, random = (probe_scores(s, task, cases) for s in (trained, make_source()))
    assert found.dice.shape == (len(cases),) and (found.dice > random.dice + 0.03).all()
    assert (found.log_likelihood > random.log_likelihood).all()
    again = probe_scores(trained, task, cases)
    np.testing.assert_array_equal(found.dice, again.dice)


def features_by_hook(source, images):
    """Inputs of the last layer, (F, X, Y)."""
    seen = []
    hook = source.network.head.register_forward_hook(lambda _m, given, _o: seen.append(given[0]))
    with torch.no_grad():
        source.network.eval()(images[None])
    hook.remove()
    return seen[0][0]


def test_probe_dice_is_measured_on_the_half_that_it_was_not_fitted_to(task, trained, monkeypatch):
    order, heads, taken = [], [], []

    def seen_pixels(source, samples, *rest):
        order.append(set(samples.ids))
        return pixels_of(source, samples, *rest)

    def seen_fit(*given):
        heads.append(fitted(*given))
        return heads[-1]

    def seen_measures(source, samples, *rest):
        order.append(set(samples.ids))
        taken.append(samples)
        return _measured(source, samples, *rest)

    monkeypatch.setattr(probing, "pixels_of", seen_pixels)
    monkeypatch.setattr(probing, "fitted", seen_fit)
    monkeypatch.setattr(probing, "_measured", seen_measures)
    cases = task.split("train")
    found = probe_scores(trained, task, cases)
    fit, measured, fit_again, measured_again = order
    assert fit == measured_again and measured == fit_again and not fit & measured
    assert fit | measured == {c.id for c in cases}
    for samples, (weight, bias) in zip(taken, heads, strict=True):
        for number, name in enumerate(samples.ids):
            both, chosen, labelled, likelihood, pixels = 0, 0, 0, 0.0, 0
            for image, labels in zip(samples.images[number], samples.labels[number], strict=True):
                features = features_by_hook(trained, torch.from_numpy(np.array(image)))
                logits = torch.einsum("yf,fxz->yxz", weight, features) + bias[:, None, None]
                valid = torch.from_numpy(np.array(labels)).long()
                for p in np.argwhere(np.asarray(labels) >= 0):
                    own = logits[:, p[0], p[1]]
                    truth, best = int(valid[p[0], p[1]]), int(own.argmax())
                    likelihood += float(own.log_softmax(0)[truth])
                    both += truth == best == 1
                    chosen += best == 1
                    labelled += truth == 1
                    pixels += 1
            place = [c.id for c in cases].index(name)
            assert found.dice[place] == pytest.approx(2 * both / (chosen + labelled), abs=2e-3)
            assert found.log_likelihood[place] == pytest.approx(likelihood / pixels, rel=1e-3)


def test_recalibrated_statistics_are_means_over_batches(task):
    source = make_source()
    samples = collect(source, task.cases[:3], task, mapped=False)
    norm = next(m for m in source.network.modules() if isinstance(m, nn.BatchNorm2d))
    means, before = [], norm.momentum
    source.network.requires_grad_(True)
    hook = norm.register_forward_hook(lambda _m, given, _o: means.append(given[0].mean((0, 2, 3))))
    recalibrate(source, samples, np.random.default_rng(0))
    hook.remove()
    assert len(means) > 2 and norm.momentum == before and not norm.training
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)


def test_drawn_pixels_stand_for_all_of_their_kind(task, monkeypatch):
    monkeypatch.setattr(probes, "PIXELS", 500)
    source = make_source()
    samples = collect(source, task.cases[:3], task, mapped=False)
    layer = source.network.head
    pixels = pixels_of(source, samples, layer, np.random.default_rng(0))
    counts = samples.class_counts(2).tolist()
    assert len(samples) <= probes.FITTED and len(pixels.labels) < 700
    for kind, count in enumerate(counts):
        own = pixels.labels == kind
        assert float(pixels.importance[own].sum()) == pytest.approx(count, rel=1e-4)
    assert 0.2 < float((pixels.labels == 1).float().mean()) < 0.6  # foreground is kept first


def test_the_probe_of_adaptive_risk_is_fitted_twice(task, trained, monkeypatch):
    """The second time with (2 - D) / D, D the soft Dice of the first fit on the same pixels."""
    drawn, given = [], []

    def seen_pixels(*rest):
        drawn.append(pixels_of(*rest))
        return drawn[-1]

    def seen_fit(pixels, classes, weights):
        given.append(weights)
        return fitted(pixels, classes, weights)

    monkeypatch.setattr(probes, "pixels_of", seen_pixels)
    monkeypatch.setattr(probes, "fitted", seen_fit)
    start = begin(trained, task, tr.Recipe(method="adaptive-risk", head="probe"))
    (pixels,) = drawn
    weight, bias = fitted(pixels, 2, torch.ones(2))
    p = (pixels.features @ weight.T + bias).softmax(1)[:, 1]
    t, stands = (pixels.labels == 1).float(), pixels.importance
    dice = float(2 * (stands * p * t).sum() / (stands * (p + t)).sum())
    dice = min(max(dice, 0.05), 0.98)
    assert len(given) == 2 and given[0].tolist() == [1, 1]
    assert given[1].tolist() == pytest.approx([1, (2 - dice) / dice], rel=1e-4)
    weight, bias = fitted(pixels, 2, given[1])
    head = start.student.network.head
    torch.testing.assert_close(head.weight[:, :, 0, 0], weight)
    torch.testing.assert_close(head.bias, bias)


def test_probe_dice_does_not_depend_on_the_order_of_the_cases(task, trained):
    cases = task.split("train")
    found, other = probe_scores(trained, task, cases), probe_scores(trained, task, cases[::-1])
    np.testing.assert_allclose(found.dice, other.dice[::-1], rtol=1e-6)


def test_a_ranking_by_the_probe(task):
    ranking = tr.rank_sources([make_source(0), make_source(1)], task, by="probe_dice")
    values = [s.estimates["probe_dice"].value for s in ranking.scores]
    assert values == sorted(values, reverse=True)
    row = ranking.rows()[0]
    assert row["probe_dice_low"] <= row["probe_dice"] <= row["probe_dice_high"]
    assert tr.rank_sources([make_source()], task, by="leep").rows()[0]["probe_dice"] is None


def test_probes_at_different_voxel_sizes_are_told_of(task):
    coarse = tr.Preprocessing(spacing=(2.0, 2.0))
    other = replace(make_source(1), name="coarse", preprocessing=coarse)
    for sources, told in (
        ([make_source(0), make_source(1)], False),
        ([make_source(), other], True),
    ):
        sources = [replace(s, name=f"s{k}") for k, s in enumerate(sources)]
        ranking = tr.rank_sources(sources, task)
        said = [
            w for s in ranking.scores for w in s.warnings if "(mm: the image's own, 2 x 2)" in w
        ]
        assert len(said) == 2 * told


def test_what_cannot_be_probed_is_unknown_and_said(task):
    source = make_source()
    source.network.head = torch.nn.Conv2d(4, 2, 3, padding=1)
    with pytest.raises(ValueError, match="head probe needs a 1x1 convolution as last layer; head"):
        begin(source, task, tr.Recipe(head="probe"))
    source.network.head = torch.nn.Conv2d(4, 2, 1, bias=False)
    with pytest.raises(
        ValueError, match="head probe needs a last layer with a bias; head has none"
    ):
        begin(source, task, tr.Recipe(head="probe"))
    stored = tr.Source("maps", torch.nn.Identity(), CLASSES, (), stored=lambda _: None)
    scored = tr.score(make_source(), task)
    result = probed(scored, stored, task)
    assert math.isnan(result.estimates["probe_dice"].value)
    assert result.warnings[-1] == "no probe: source maps has no network to probe"
    with pytest.raises(ValueError, match="probe_dice needs at least 2 cases; got 1"):
        probe_scores(source, task, task.cases[:1])


def test_the_head_is_the_last_layer_that_runs():
    assert head_name(make_source().network, make_source()) == "head"


def test_by_default_sources_rank_by_the_probe_where_all_have_one(task, monkeypatch):
    ranking = tr.rank_sources([make_source(0), make_source(1)], task)
    assert ranking.by == "probe_dice"
    text = ranking_text(ranking, "table")
    assert "probe-Dice [95 %]" in text and "ranked for fine-tuning with --head probe" in text
    assert (
        "with nothing frozen and a Dice loss no score was certain to beat a random choice" in text
    )

    def refuse(source, *_):
        raise ValueError("it has no network to probe")

    monkeypatch.setattr(probing, "probe_scores", refuse)
    mixed = tr.rank_sources([make_source(0), make_source(1)], task)
    assert mixed.by == "leep"
    assert mixed.rows()[0]["leep"] >= mixed.rows()[1]["leep"]
    plain = tr.rank_sources([make_source(0)], task, by="leep")
    assert plain.rows()[0]["probe_dice"] is None
    text = ranking_text(plain, "table")
    assert (
        "a frozen encoder --by probe_dice lost least in both audits" in text
        and "probe-Dice" not in text
    )
    with pytest.raises(ValueError, match=r"by must be auto or one of leep, .*; got 'luck'"):
        tr.rank_sources([make_source()], task, by="luck")


def test_a_source_that_sees_parts_or_mirrors_is_probed_on_images_as_they_are(task):
    """A network without neighbourhood: the parts side by side are the image."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)
    )
    whole = tr.Source("whole", network, ("background", "csf"), ("T1",), encoder=r"^0\.")
    parts = replace(whole, preprocessing=replace(whole.preprocessing, size=(9, 8)))
    weight = torch.randn(len(task.classes), 4, generator=torch.Generator().manual_seed(1))
    bias = torch.zeros(len(task.classes))
    mirrored = replace(whole, network=Folds([network], (0, 1)))
    found = []
    for source in (whole, mirrored, parts):
        samples = collect(source, task.cases[:3], task, mapped=False)
        found.append(_measured(source, samples, network[2], weight, bias))
    assert not samples.whole
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)


class Volumes(nn.Module):
    """A 1x1x1 head that remembers how many images came at once."""

    def __init__(self):
        super().__init__()
        self.first, self.head, self.seen = nn.Conv3d(1, 3, 1), nn.Conv3d(3, 2, 1), []

    def forward(self, images):
        self.seen.append(len(images))
        return self.head(self.first(images))


def test_parts_of_volumes_are_probed_one_by_one(task):
    network = Volumes()
    size = tr.Preprocessing(size=(9, 8, 4))
    source = tr.Source(
        "v", network, ("background", "csf"), ("T1",), spatial_dims=3, preprocessing=size
    )
    found = probe_scores(source, task, task.cases[:4])
    assert np.isfinite(found.dice).any() and set(network.seen) == {1}


def test_too_little_memory_for_a_probe_leaves_the_score(task, trained, monkeypatch):
    def full(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"
        )

    own = tr.score(trained, task)
    monkeypatch.setattr(probing, "probe_scores", full)
    found = probed(own, trained, task)
    assert found.warnings[-1] == "no probe: its features need more memory than there is"
    assert found.estimates["leep"] == own.estimates["leep"]
    monkeypatch.setattr(probing, "probe_scores", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        probed(own, trained, task)


def test_a_mean_of_networks_is_not_probed(task):
    networks = [tr.UNet(1, 2, width=4, depth=2) for _ in range(2)]
    source = replace(make_source(), network=Folds(networks))
    with pytest.raises(ValueError, match="is the mean of 2 networks"):
        probe_scores(source, task, task.cases)


def test_a_source_whose_head_cannot_be_probed_has_no_probe_dice(task):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.Conv2d(4, 2, 3, padding=1))
    source = tr.Source("wide", network, ("background", "csf"), ("T1",), encoder=r"^0\.")
    ranking = tr.rank_sources([source], task, probe=True)
    assert ranking.by == "leep" and np.isnan(ranking.scores[0].estimates["probe_dice"].value)
    (alone, other) = tr.rank_sources([source, make_source()], task).scores
    assert not any("probe_dice" in s.estimates for s in (alone, other))
    said = [w for s in (alone, other) for w in s.warnings if w.startswith("no probe")]
    assert len(said) == 1 and said[0].endswith("none is probed (--probe probes the others)")
    assert "no probe: head probe needs a 1x1 convolution" in ranking.scores[0].warnings[0]


def test_sources_of_equal_probe_dice_stand_by_log_likelihood(task, monkeypatch):
    def equal(source, task, cases, **_):
        likelihood = -float(source.name[1:])
        return probing.ProbeScores(np.zeros(len(cases)), np.full(len(cases), likelihood))

    monkeypatch.setattr(probing, "probe_scores", equal)
    for seeds in ((2, 1, 3), (3, 2, 1)):
        ranking = tr.rank_sources([make_source(k) for k in seeds], task)
        assert [s.source for s in ranking.scores] == ["s1", "s2", "s3"]


def test_ranking_by_a_score_that_no_source_has_is_refused(task):
    source = make_source(classes=("background", "other"))
    with pytest.raises(ValueError, match=r"known of some source, leep.*nce; got dice"):
        tr.rank_sources([source], task, by="dice")


class Padding(nn.Module):
    """A network that pads its images before and after, and crops its outputs, times something."""

    def __init__(self, before, after, factor=1.0):
        super().__init__()
        self.encoder = nn.Conv2d(1, 6, 1)  # no voxel sees another: padding changes none
        self.head = nn.Conv2d(6, 2, 1)
        self.before, self.after, self.factor = before, after, factor

    def forward(self, images):
        padded = functional.pad(images, (self.before, self.after) * 2, value=5.0)
        made = self.factor * self.head(self.encoder(padded).relu())
        inside = [slice(self.before, self.before + n) for n in images.shape[-2:]]
        return made[..., inside[0], inside[1]]


class Normed(nn.Module):
    """Batch norm with and without parameters."""

    def __init__(self):
        super().__init__()
        norm = nn.BatchNorm2d(4, affine=False)
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.head(self.body(self.encoder(images)))


@pytest.mark.parametrize(("before", "after"), [(0, 4), (2, 2), (1, 2), (2, 1), (4, 0)])
def test_the_probe_finds_where_a_padding_network_has_its_image(task, before, after):
    def score(*ends):
        torch.manual_seed(0)
        source = tr.Source("p", Padding(*ends).eval(), ("background", "csf"), ("T1",))
        return probe_scores(source, task, task.split("train"))

    assert score(before, after).dice == pytest.approx(score(0, 0).dice, abs=1e-6)


def test_a_last_layer_whose_outputs_are_not_the_networks_is_no_probe(task):
    source = tr.Source("p", Padding(2, 2, 7.0).eval(), ("background", "csf"), ("T1",))
    with pytest.raises(ValueError, match="those of source p are not"):
        probe_scores(source, task, task.split("train"))


def test_frozen_batch_norm_without_parameters_keeps_its_statistics(task):
    torch.manual_seed(0)
    network = Normed()
    network.encoder[1].running_mean.fill_(3.0)
    source = tr.Source("n", network, ("background", "csf"), ("T1",), encoder=r"^encoder\.")
    start = begin(source, task, tr.Recipe(method="vanilla", head="probe"))
    made = start.student.network
    assert (made.encoder[1].running_mean == 3).all()
    assert not torch.equal(made.body[1].running_mean, torch.zeros(4))
