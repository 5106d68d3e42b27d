"""What the transforms and the inferer of a bundle of MONAI are called here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer_risk.adapters.references import followed, resolved

READERS = {"LoadImage", "EnsureChannelFirst", "EnsureType", "AddChannel", "CastToType", "ToTensor"}
"""Transforms that change no value."""


def activation(config: Mapping[str, Any], file: Path) -> str:
    """`softmax` or `sigmoid` by what postprocessing does; empty where it says neither.

    Raises:
        ValueError: if postprocessing cannot be read without running code.
    """
    for transform in _transforms(config.get("postprocessing"), config, f"{file}: postprocessing"):
        if _kind(transform) == "Activations":
            given = resolved(
                {k: transform.get(k, False) for k in ("softmax", "sigmoid")},
                config,
                f"{file}: postprocessing",
            )
            return "sigmoid" if given["sigmoid"] else "softmax" if given["softmax"] else ""
    return ""


def preprocessing(
    config: Mapping[str, Any], file: Path, dims: int, channels: Any
) -> dict[str, Any]:
    """The `[preprocessing]` table that says what the bundle's transforms and its inferer do."""
    where = f"{file}: preprocessing"
    found: dict[str, Any] = {"normalise": "none"}
    for entry in _transforms(config.get("preprocessing"), config, where):
        if _kind(entry) not in READERS:
            given = resolved({k: v for k, v in entry.items() if k != "device"}, config, where)
            made = _transform(given, where, dims, channels)
            if found["normalise"] != "none" and "normalise" in made:
                raise _no_equal(
                    where, f"{entry.get('_target_')} after another change of intensities"
                )
            if "orientation" in made and len(set(found.get("spacing", ()))) > 1:
                raise _no_equal(where, "an Orientation after a Spacing of unequal voxel sizes")
            found |= made
    if (windows := _windows(config, file)) is not None:
        size = windows.get("roi_size") or []
        found |= {
            "size": [size] * dims if isinstance(size, int) else list(size),
            "overlap": windows.get("overlap", 0.25),
        }
    return found


def blending(config: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """A sentence where the bundle's inferer does not blend its windows with Gaussian weights, as is done here."""
    if (windows := _windows(config, file)) is None:
        return ()
    mode = windows.get("mode", "constant")
    said = f"{file}: inferer blends its windows with {mode} weights; here they are Gaussian"
    return () if str(mode).lower().endswith("gaussian") else (said,)


def _windows(config: Mapping[str, Any], file: Path) -> Mapping[str, Any] | None:
    """What the bundle tells its sliding-window inferer, of what matters here; None where it has no such inferer."""
    where = f"{file}: inferer"
    inferer = followed(config.get("inferer", {}), config, where)
    if _kind(inferer) != "SlidingWindowInferer":
        return None
    given = {k: inferer[k] for k in ("roi_size", "overlap", "mode") if k in inferer}
    windows: Mapping[str, Any] = resolved(given, config, where)
    return windows


def _transform(given: Mapping[str, Any], where: str, dims: int, channels: Any) -> dict[str, Any]:
    """What one transform adds to the table."""
    kind = _kind(given)
    if kind == "Orientation":
        # without axcodes it is as_closest_canonical, which is RAS
        return {"orientation": given.get("axcodes") or "RAS"}
    if kind == "Spacing":
        spacing = given["pixdim"]
        return {"spacing": list(spacing) if isinstance(spacing, list) else [spacing] * dims}
    # each channel is scaled alone here; MONAI takes them together unless told
    whole = given.get("channel_wise") or channels == 1
    if kind == "NormalizeIntensity" and whole and not {"subtrahend", "divisor"} & set(given):
        return {"normalise": "zscore-nonzero" if given.get("nonzero") else "zscore"}
    if (
        kind == "ScaleIntensity"
        and whole
        and (given.get("minv", 0.0), given.get("maxv", 1.0)) == (0.0, 1.0)
    ):
        return {"normalise": "minmax"}
    if (
        kind == "ScaleIntensityRange"
        and given.get("clip")
        and (given.get("b_min"), given.get("b_max")) == (0, 1)
    ):
        return {"normalise": "window", "window": [given["a_min"], given["a_max"]]}
    raise _no_equal(where, str(given.get("_target_")))


def _no_equal(where: str, what: str) -> ValueError:
    return ValueError(
        f"{where} has {what}, which has no equal here; write [preprocessing] in a source.toml beside the bundle or give "
        "--source-config"
    )


def _transforms(value: Any, config: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """The transforms of a `Compose`, or none where there is no such section.

    Raises:
        ValueError: if they cannot be read without running code.
    """
    composed = followed(value, config, where)
    if composed is None:
        return []
    listed = composed.get("transforms", []) if isinstance(composed, Mapping) else composed
    listed = followed(listed, config, where)
    if not isinstance(listed, list):
        raise ValueError(f"{where} must have a list of transforms; got {listed!r}")
    found = [followed(t, config, where) for t in listed]
    return [t for t in found if isinstance(t, Mapping) and not t.get("_disabled_")]


def _kind(entry: Any) -> str:
    """Class name of a component without its path and the ending that says it works on dictionaries."""
    name = str(entry.get("_target_", "")).rpartition(".")[2] if isinstance(entry, Mapping) else ""
    return name[:-4] if name.endswith("Dict") else name.removesuffix("d").removesuffix("D")
