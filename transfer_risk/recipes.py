"""How a fine-tuning is done: every option in one value, checked once, written to and read from TOML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transfer_risk.tomlfiles import read_toml, refuse_unknown

METHODS = (
    "vanilla",
    "class-weight",
    "trs-map",
    "risk-map",
    "class-mean",
    "class-shuffle",
    "eep-risk",
    "adaptive-risk",
)
MAPPED = ("trs-map", "risk-map", "class-mean", "class-shuffle", "eep-risk")
"""Methods that need the source's transferability on the training cases."""

DIVIDED = ("risk-map", "class-mean", "class-shuffle")
"""Methods whose loss is divided by the foreground."""
SCALED = (*DIVIDED, "trs-map")
"""Methods that scale transferability to hardness."""
EFFECT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("extent", "clip", "min_range"), SCALED),
    **dict.fromkeys(("divisor", "min_foreground"), DIVIDED),
    "exponential": ("trs-map",),
}
"""Options that only some methods heed, and these."""

CHOICES: dict[str, tuple[str, ...]] = {
    "method": METHODS,
    "optimiser": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "cosine"),
    "head": ("auto", "keep", "new", "probe"),
    "init": ("source", "random"),
    "decision": ("argmax", "tuned", "adjusted"),
    "extent": ("image", "case", "set"),
    "divisor": ("batch", "image", "pixels"),
    "precision": ("fp32", "bf16"),
}
_POSITIVE = ("iterations", "lr", "batch", "checkpoint")
_NOT_NEGATIVE = ("n_cases", "n_slices", "dice_weight", "min_range", "cache", "seed")


@dataclass(frozen=True)
class Recipe:
    """Options of a fine-tuning; the defaults are the paper's protocol where it gives one.

    Args:
        method: Loss: `vanilla`, `class-weight`, `trs-map`, `risk-map` (the paper), `class-mean` and `class-shuffle`
            (its controls), or `eep-risk` and `adaptive-risk` (beyond the paper).
        iterations: Steps.
        lr: Learning rate.
        batch: Slices (2D) or patches (3D) per step.
        optimiser: `adam`, `adamw` or `sgd` (momentum 0.9).
        schedule: `constant`, or `cosine` (to 0 along half a period).
        freeze: `encoder` (the source's own expression), `none`, or a regular expression on parameter names.
        head: `keep`, `new`, `probe` (fitted to the training cases before the first step), or `auto`: keep where
            source and target have equally many classes, with the same names or none in common, else new.
        init: `source`, or `random`: from scratch, nothing frozen.
        n_cases: Few-shot: only so many training cases (0 = all); nested for one seed.
        n_slices: Few-shot: only so many training slices (0 = all); nested for one seed.
        validation: Share of the training cases that is kept for tuning the decision.
        dice_weight: Weight of a soft Dice loss that is added.
        augment: Flip along the first in-plane axis and vary intensity; image, label and risk move together.
        decision: `argmax`, `tuned` or `adjusted`; stored in the resulting source.
        base: Risk = base ** hardness.
        extent: What hardness is scaled over: `image` (what the network sees at once), `case` or `set`.
        clip: Low percentile of transferability that takes the place of its minimum; 0 = off.
        min_range: Nats; a smaller range counts as constant.
        divisor: What the risk-weighted sum is divided by: foreground of the `batch`, of each `image`, or all `pixels`.
        min_foreground: The divisor is at least this share of the valid pixels.
        exponential: `trs-map` weighs with exp(-T), T clipped at its 1st percentile, instead of 1 + H.
        seed: Of few-shot subsets, new weights and the order of the data.
        device: Where torch computes.
        precision: `fp32`, or `bf16` (autocast).
        cache: GiB for the features of a frozen encoder; 0 = compute them in each step.
        checkpoint: Iterations between resumable states.
    """

    method: str = "risk-map"
    iterations: int = 5_000
    lr: float = 1e-4
    batch: int = 8
    optimiser: str = "adam"
    schedule: str = "constant"
    freeze: str = "encoder"
    head: str = "auto"
    init: str = "source"
    n_cases: int = 0
    n_slices: int = 0
    validation: float = 0.0
    dice_weight: float = 0.0
    augment: bool = False
    decision: str = "argmax"
    base: float = 10.0
    extent: str = "image"
    clip: float = 0.0
    min_range: float = 0.0
    divisor: str = "batch"
    min_foreground: float = 0.0
    exponential: bool = False
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    cache: float = 2.0
    checkpoint: int = 250

    def __post_init__(self) -> None:
        """Check words and numbers.

        Raises:
            ValueError: naming the option, what it must be and what it was.
        """
        for option in fields(self):
            _check_kind(option.name, getattr(self, option.name), type(option.default))
        for name, allowed in CHOICES.items():
            if (word := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {word!r}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be a share in [0, 1); got {self.validation}")
        if self.validation and self.decision != "tuned":
            raise ValueError(
                f"validation keeps training cases for tuning the decision, which is {self.decision}; give decision tuned, "
                "or validation 0"
            )
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63; got {self.seed}")
        if (
            not 1 <= self.base <= 1e6
            or not 0 <= self.clip < 100
            or not 0 <= self.min_foreground <= 1
        ):
            raise ValueError(
                "base must be from 1 to 1e6, clip a percentile in [0, 100) and min_foreground a share in [0, 1]; "
                f"got {self.base}, {self.clip} and {self.min_foreground}"
            )
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise ValueError(
                f"freeze must be encoder, none or a regular expression; got {self.freeze!r} ({error})"
            ) from None

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Recipe:
        """From a table of options; unknown names are refused.

        Raises:
            ValueError: naming an unknown option, or one that is out of range.
        """
        refuse_unknown(table, OPTIONS, "a recipe")
        return cls(**table)


OPTIONS = tuple(f.name for f in fields(Recipe))


def _check_kind(name: str, value: object, kind: type) -> None:
    """Raise ValueError where an option has another type than its default; whole numbers count as numbers."""
    right = isinstance(value, (int, float) if kind is float else kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
        raise ValueError(f"{name} must be {words[kind]}; got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}")


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Options of a TOML file, to be overridden and given to `Recipe.of`.

    A config.toml of a run folder can be used as it is: format, task and source are left out.

    Raises:
        ValueError: naming the file, if it is missing, no TOML, or has an unknown option.
    """
    table = read_toml(path, format=None)
    options = {k: v for k, v in table.items() if k not in ("format", "task", "source")}
    refuse_unknown(options, OPTIONS, f"{path}: a recipe")
    return options
