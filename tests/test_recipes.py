"""Options of a recipe: said once each, the same in Python and on the command line, and none that does nothing unseen."""

import inspect
import re
import warnings
from dataclasses import fields
from typing import get_args

import click
import pytest
import torch

import transfer_risk as tr
from transfer_risk.cli.finetuning import finetune_command
from transfer_risk.methods import DIVIDED, EFFECT, MAPPED, METHODS, SCALED, idle
from transfer_risk.options import LARGEST_BASE, Divisor, Extent, check_word
from transfer_risk.recipes import OPTIONS, Recipe

WORDS = {"--config", "--out", "--resume", "--source-config", "--trust", "--missing-channels"}


def test_every_field_is_described_and_an_option_of_the_command():
    described = re.findall(r"^    (\w+): ", inspect.getdoc(Recipe), re.M)
    assert tuple(described) == OPTIONS
    own = [p for p in finetune_command.params if isinstance(p, click.Option)]
    known = {p.name: p for p in own if p.opts[0] not in WORDS}
    assert tuple(known) == OPTIONS
    for field in fields(Recipe):
        option, words = known[field.name], field.metadata["choices"]
        assert option.opts == [f"--{field.name.replace('_', '-')}"]
        assert field.metadata["text"] in option.help
        assert tuple(getattr(option.type, "choices", ())) == words
        assert not words or field.default in words


def test_methods_and_options_that_are_told_apart_are_known():
    assert set(EFFECT) <= set(OPTIONS)
    for methods in (MAPPED, DIVIDED, SCALED, *EFFECT.values()):
        assert set(methods) <= set(METHODS)


def test_the_words_of_the_recipe_are_those_that_the_functions_take():
    theta, labels = torch.full((1, 2, 3), 0.5), torch.tensor([[0, 1, 1]])
    for word in get_args(Extent):
        assert tr.Recipe(extent=word).extent == word
        tr.risk_map(theta, labels, extent=word)
    for word in get_args(Divisor):
        assert tr.Recipe(divisor=word).divisor == word
        tr.risk_weighted_loss(torch.zeros(1, 2, 3), labels, torch.ones(1, 3), divisor=word)
    assert tr.Recipe(base=LARGEST_BASE).base == LARGEST_BASE
    for base in (LARGEST_BASE * 1.01, 0.99):
        with pytest.raises(ValueError, match="base must be from 1 to 1e6"):
            tr.Recipe(base=base)


def test_a_word_that_is_none_of_the_allowed_is_named():
    with pytest.raises(ValueError, match=r"^extent must be image, case or set; got 'slice'$"):
        check_word("extent", "slice", get_args(Extent))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "vanilla", "exponential": True}, "exponential has no effect with method vanil"),
        ({"method": "eep-risk", "clip": 1.0}, "clip has no effect with method eep-risk; it is for"),
        (
            {"method": "trs-map", "exponential": True, "extent": "set"},
            "extent has no effect with exponential, whose weight is no risk on a scale",
        ),
        (
            {"divisor": "pixels", "min_foreground": 0.1},
            "min_foreground has no effect with divisor pixels",
        ),
        (
            {"init": "random", "freeze": "encoder.*"},
            "freeze has no effect with init random, which trains everything",
        ),
        (
            {"init": "random", "head": "keep"},
            "head keep has no effect with init random, which draws it again",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_that_does_nothing_is_warned_of_where_the_recipe_is_made(options, said):
    with pytest.warns(UserWarning, match=re.escape(said)) as found:
        tr.Recipe(**options)
    assert len(found) == 1 and found[0].filename == __file__


def test_options_that_do_something_and_defaults_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            tr.Recipe(method=method, base=3.0, dice_weight=1.0, freeze="none", head="keep")
            for name, methods in EFFECT.items():
                if method in methods:
                    value = {"exponential": True, "extent": "set", "divisor": "image"}
                    tr.Recipe(method=method, **{name: value.get(name, 0.5)})
        tr.Recipe(init="random", freeze="none", head="new", exponential=False)


def test_an_exponential_that_does_nothing_stops_no_other_option():
    options = vars(tr.Recipe()) | {"exponential": True, "extent": "set"}
    assert [what for what, *_ in idle(options, ["extent"])] == []
    assert [what for what, *_ in idle(options, ["exponential"])] == ["exponential"]


def test_the_defaults_are_the_papers_protocol():
    r = tr.Recipe()
    assert (r.method, r.divisor, r.base, r.extent) == ("risk-map", "batch", 10, "image")
    assert (r.optimiser, r.schedule, r.lr, r.iterations) == ("adam", "constant", 1e-4, 5000)
    assert (r.init, r.freeze, r.head, r.decision) == ("source", "encoder", "auto", "argmax")
    assert (r.clip, r.min_range, r.min_foreground, r.dice_weight) == (0, 0, 0, 0)
    assert not r.augment and not r.exponential and not r.n_cases and not r.n_slices
