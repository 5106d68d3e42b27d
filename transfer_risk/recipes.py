"""How a fine-tuning is done: every option in one value, checked once, written to and read from TOML."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from transfer_risk.methods import METHODS, idle
from transfer_risk.options import LARGEST_BASE, Divisor, Extent, check_option, option
from transfer_risk.tomlfiles import read_toml, refuse_unknown


@dataclass(frozen=True)
class Recipe:
    """Options of a fine-tuning; the defaults are the paper's protocol where it gives one. Warns of one that does nothing.

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
        n_slices: Few-shot: only so many training slices (0 = all); nested for one seed, n_cases and validation.
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
        device: Where training computes; maps, measures and tuned decisions are made on the CPU.
        precision: `fp32`, or `bf16` (autocast).
        cache: GiB of memory for the features of a frozen encoder (own U-Nets, CPU, no augment); 0 = none are kept.
        checkpoint: Iterations between resumable states.
    """

    method: str = option(
        "risk-map",
        "Loss: vanilla (cross-entropy), class-weight (inverse frequency), trs-map (1 + hardness), risk-map (the paper's), "
        "class-mean and class-shuffle (its controls), eep-risk, adaptive-risk.",
        choices=METHODS,
    )
    iterations: int = option(5_000, "Steps.", sign="positive")
    lr: float = option(1e-4, "Learning rate.", sign="positive")
    batch: int = option(8, "Slices (2D) or patches (3D) per step.", sign="positive")
    optimiser: str = option(
        "adam", "Optimiser; sgd has momentum 0.9.", choices=("adam", "adamw", "sgd")
    )
    schedule: str = option(
        "constant", "Of the learning rate; cosine ends at 0.", choices=("constant", "cosine")
    )
    freeze: str = option(
        "encoder",
        "encoder (what the source says), none, or a regular expression on parameter names.",
    )
    head: str = option(
        "auto",
        "Last layer: keep, new (random), probe (fitted to the training cases first); auto keeps it for equally many "
        "classes, with the same names or none in common.",
        choices=("auto", "keep", "new", "probe"),
    )
    init: str = option(
        "source",
        "random: SOURCE's architecture from scratch, nothing frozen; the reference for negative transfer.",
        choices=("source", "random"),
    )
    n_cases: int = option(
        0, "Few-shot: only so many training cases, nested by seed; 0 = all.", sign="not negative"
    )
    n_slices: int = option(
        0, "Few-shot: only so many training slices, nested by seed; 0 = all.", sign="not negative"
    )
    validation: float = option(
        0.0,
        "Share (0 to below 1) of the training cases that is kept for --decision tuned; 0 = it is tuned on all.",
    )
    dice_weight: float = option(
        0.0, "Weight of a soft Dice loss that is added.", sign="not negative"
    )
    augment: bool = option(False, "Flips and intensity changes; the risk map moves with the image.")
    decision: str = option(
        "argmax",
        "How probabilities become labels: argmax; tuned (an offset per class, for the best Dice on training cases); "
        "adjusted (offsets that undo the loss's class weights). Stored in the model.",
        choices=("argmax", "tuned", "adjusted"),
    )
    base: float = option(10.0, "Risk = base ** hardness.")
    extent: str = option(
        "image",
        "What hardness is scaled over: image (what the network sees at once), case, or set (all training cases).",
        choices=get_args(Extent),
    )
    clip: float = option(
        0.0,
        "Percentile (0 to 100) of transferability that takes the place of its minimum; 0 = off.",
    )
    min_range: float = option(
        0.0,
        "Nats; a smaller range of transferability counts as constant.",
        sign="not negative",
    )
    divisor: str = option(
        "batch",
        "What the risk-weighted sum is divided by: foreground pixels of the batch, of each image, or all pixels.",
        choices=get_args(Divisor),
    )
    min_foreground: float = option(0.0, "The divisor is at least this share of the valid pixels.")
    exponential: bool = option(
        False, "trs-map weighs with exp(-transferability) instead of 1 + hardness."
    )
    seed: int = option(0, "Of subsets, new weights and the order of the data.", sign="not negative")
    device: str = option(
        "cpu",
        "torch device of the training (cpu, cuda, mps); maps, measures and tuned decisions are made on the CPU.",
    )
    precision: str = option("fp32", "bf16: autocast.", choices=("fp32", "bf16"))
    cache: float = option(
        2.0,
        "GiB of memory (not of disk) for features of a frozen encoder (own U-Nets, CPU, no augment); 0 = none.",
        sign="not negative",
    )
    checkpoint: int = option(250, "Iterations between resumable states.", sign="positive")

    def __post_init__(self) -> None:
        """Check words and numbers.

        Raises:
            ValueError: naming the option, what it must be and what it was.
        """
        for known in fields(self):
            check_option(known, getattr(self, known.name))
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
            not 1 <= self.base <= LARGEST_BASE
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
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        for what, beside, why in idle(vars(self), changed):
            warnings.warn(f"{what} has no effect with {beside}{why}", stacklevel=3)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Recipe:
        """From a table of options; unknown names are refused.

        Raises:
            ValueError: naming an unknown option, or one that is out of range.
        """
        refuse_unknown(table, OPTIONS, "a recipe")
        return cls(**table)


OPTIONS = tuple(f.name for f in fields(Recipe))


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
