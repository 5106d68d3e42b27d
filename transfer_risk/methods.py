"""The methods of fine-tuning by name, and which options each of them heeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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


def idle(options: Mapping[str, Any], names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Those of the named options that do nothing beside the others: each, what it has no effect with, and why.

    Args:
        options: Every option of a recipe with its value.
        names: Those that are asked about; one that is off is not named.
    """
    method, scratch = options["method"], options["init"] == "random"
    unscaled = options["exponential"] and method in EFFECT["exponential"]
    for name in (n for n in names if options[n] is not False):
        methods = EFFECT.get(name, (method,))
        if method not in methods:
            yield name, f"method {method}", f"; it is for {', '.join(methods)}"
        elif name == "freeze" and scratch and options["freeze"] != "none":
            yield name, "init random", ", which trains everything"
        elif name == "head" and options["head"] == "keep" and scratch:
            yield "head keep", "init random", ", which draws it again"
        elif name == "min_foreground" and options["divisor"] == "pixels":
            yield name, "divisor pixels", ""
        elif name in ("extent", "clip", "min_range") and unscaled:
            yield name, "exponential", ", whose weight is no risk on a scale"
