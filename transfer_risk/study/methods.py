"""Ways of fine-tuning that studies compare: options of `Recipe` by the names that tables and figures give them."""

from __future__ import annotations

from typing import Any

METHODS = ("vanilla", "class-weight", "trs-map", "risk-map", "class-mean")
"""The paper's four and the risk map's control."""
DICE = "CE + Dice"
PROBED = "probe + adaptive-risk"
PROBED_DICE = f"{PROBED} + Dice"
"""What the documents call the recipe."""
RECIPES: dict[str, dict[str, Any]] = {
    **{m: {"method": m} for m in METHODS},
    DICE: {"method": "vanilla", "dice_weight": 1.0},
    "probe": {"method": "vanilla", "head": "probe"},
    "probe + eep-risk": {"method": "eep-risk", "head": "probe"},
    PROBED: {"method": "adaptive-risk", "head": "probe"},
    PROBED_DICE: {"method": "adaptive-risk", "head": "probe", "dice_weight": 1.0},
}
"""The five methods of the paper's tables, then what stands beside and beyond them."""
BOTH = {name: RECIPES[name] for name in ("vanilla", "risk-map")}
"""The paper's comparison."""
SCRATCH: dict[str, dict[str, Any]] = {"scratch": {"method": "vanilla", "init": "random"}}
"""The reference without a source."""
SCRATCH_DICE = f"scratch, {DICE}"
FRESH = SCRATCH | {SCRATCH_DICE: RECIPES[DICE] | {"init": "random"}}
"""References without a source, by either loss."""
UNWEIGHTED = "probe + CE + Dice"
VANILLA_UNFROZEN, DICE_UNFROZEN, PROBED_DICE_UNFROZEN = (
    f"{name}, nothing frozen" for name in ("vanilla", DICE, PROBED_DICE)
)
UNFROZEN = {
    DICE_UNFROZEN: RECIPES[DICE] | {"freeze": "none"},
    PROBED_DICE_UNFROZEN: RECIPES[PROBED_DICE] | {"freeze": "none"},
}
"""CE + Dice and the recipe without what the frozen encoder costs them."""
SIMPLER: dict[str, dict[str, Any]] = {
    UNWEIGHTED: {"method": "vanilla", "head": "probe", "dice_weight": 1.0}
}
"""The recipe without its weights."""
CONFIRMED = ("vanilla", DICE, PROBED_DICE)
"""Those that are measured on other subjects than the recipe was chosen on."""
RECOMMENDED = {
    "vanilla": RECIPES["vanilla"],
    VANILLA_UNFROZEN: RECIPES["vanilla"] | {"freeze": "none"},
    DICE_UNFROZEN: UNFROZEN[DICE_UNFROZEN],
    PROBED_DICE: RECIPES[PROBED_DICE],
}
"""What README recommends, and the steps to it: measured on subjects after which nothing was decided."""
