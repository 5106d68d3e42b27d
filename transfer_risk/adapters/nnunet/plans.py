"""What nnU-Net's plans.json and dataset.json say about channels, classes and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer_risk.adapters.nnunet.intensity import SCHEMES
from transfer_risk.adapters.nnunet.preprocessing import Recipe
from transfer_risk.adapters.nnunet.resampling import Resampling
from transfer_risk.datasetjson import labels_in, numbered
from transfer_risk.tasks import Preprocessing

READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")
OVERLAP = 0.5  # nnU-Net's tile step


def configuration_of(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a network of that configuration needs of plans.json, inheritance resolved.

    Raises:
        ValueError: if there is no such configuration, or it is the second stage of a cascade.
    """
    table = _inherited(plans["configurations"], name, ())
    if table.get("previous_stage"):
        raise ValueError(
            f"configuration {name} is the second stage of a cascade, which needs the output of "
            f"{table['previous_stage']}; use that one, 3d_fullres or 2d"
        )
    statistics = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    return table | {
        "transpose_forward": plans["transpose_forward"],
        "image_reader_writer": plans["image_reader_writer"],
        "intensities": statistics,
    }


def _inherited(tables: Mapping[str, Any], name: str, below: tuple[str, ...]) -> dict[str, Any]:
    if name not in tables or name in below:
        raise ValueError(f"has no usable configuration {name}; it has {', '.join(tables)}")
    table = dict(tables[name])
    parent = table.pop("inherits_from", None)
    return (_inherited(tables, parent, (*below, name)) if parent else {}) | table


def recipe_of(configuration: Mapping[str, Any], activation: str) -> Recipe:
    """The preprocessing of a configuration.

    Raises:
        ValueError: if plans.json wants a reader, normalisation or resampling that is not known here.
    """
    if activation not in ("softmax", "sigmoid"):
        raise ValueError(
            f"activation of an nnU-Net source must be softmax or sigmoid; it is {activation}"
        )
    schemes = tuple(configuration["normalization_schemes"])
    for scheme in schemes:
        _among("normalization_schemes", scheme, tuple(SCHEMES))
    _among("image_reader_writer", configuration["image_reader_writer"], READERS)
    _among("preprocessor_name", configuration["preprocessor_name"], ("DefaultPreprocessor",))
    statistics = configuration["intensities"]
    return Recipe(
        spacing=tuple(configuration["spacing"]),
        transpose=tuple(configuration["transpose_forward"]),
        schemes=schemes,
        masked=tuple(bool(use) for use in configuration["use_mask_for_norm"]),
        intensities=tuple(statistics.get(str(k), {}) for k in range(len(schemes))),
        data=_resampling(configuration, "data"),
        probabilities=_resampling(configuration, "probabilities"),
        reorient=configuration["image_reader_writer"] == "NibabelIOWithReorient",
        activation=activation,
    )


def windows_of(configuration: Mapping[str, Any]) -> Preprocessing:
    """Patch, windows and the spacing, in the plans' order of axes; images are normalised and resampled by the recipe."""
    return Preprocessing(
        normalise="none",
        spacing=tuple(configuration["spacing"]),
        size=tuple(configuration["patch_size"]),
        overlap=OVERLAP,
        tiling="even",
    )


def channels_of(dataset: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Channel names in the network's order."""
    key = "channel_names" if dataset.get("channel_names") else "modality"
    return tuple(map(str, numbered(dataset[key], path, key)))


def labels_of(dataset: Mapping[str, Any], path: Path) -> tuple[dict[str, int], bool]:
    """Raw value of each foreground class in the order of the outputs, and whether they are overlapping regions.

    Region i is written as regions_class_order[i], later ones over earlier ones.

    Raises:
        ValueError: if a value is no whole number, or there are regions without regions_class_order.
    """
    labels = labels_in(dataset, path)
    if not labels.regions:
        return {name: own[0] for name, own in labels.values.items()}, False
    if len(labels.order) != len(labels.values):
        raise ValueError(
            f"regions_class_order must have {len(labels.values)} values, one for each region; it is {list(labels.order)}"
        )
    return dict(zip(labels.values, labels.order, strict=True)), True


def _resampling(configuration: Mapping[str, Any], what: str) -> Resampling:
    """How images or probabilities are resampled."""
    given = configuration[f"resampling_fn_{what}_kwargs"]
    _among(
        f"resampling_fn_{what}",
        configuration[f"resampling_fn_{what}"],
        ("resample_data_or_seg_to_shape",),
    )
    _among(f"resampling_fn_{what}_kwargs.order_z", given.get("order_z", 0), (0,))
    return Resampling(
        given["order"],
        given.get("force_separate_z", False),
        given.get("separate_z_anisotropy_threshold", 3),
    )


def _among(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, known))}; it is {value}. Predict with nnU-Net "
            "(--save_probabilities) and give the folder of probabilities instead"
        )
