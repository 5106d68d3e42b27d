"""What a task is: names, files, label map, split, preprocessing. No pixel is read here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import permutations, product
from numbers import Integral, Real
from typing import Any, TypeVar

from transfer_risk.checks import numbers, one_of, raw_values, texts, unique
from transfer_risk.tomlfiles import refuse_unknown

NORMALISATIONS = ("zscore-nonzero", "zscore", "minmax", "window", "none")
SELECTIONS = ("nonzero", "all", "foreground")
TILINGS = ("fixed", "even")
ORIENTATIONS = {"".join(c) for ends in permutations(("RL", "AP", "SI")) for c in product(*ends)}

Made = TypeVar("Made", "Preprocessing", "Decision")


@dataclass(frozen=True)
class Case:
    """One labelled examination.

    Args:
        id: Unique name within the data set.
        images: One file per channel of the task, in its order.
        label: Label file; None for an unlabelled case.
        group: What must not be divided by a split, usually the patient; the id where empty.
        slices: Only these slices along the task's axis count for scoring and training (few-shot); None: all that
            the task selects.
    """

    id: str
    images: tuple[str, ...]
    label: str | None = None
    group: str = ""
    slices: tuple[int, ...] | None = None

    @property
    def unit(self) -> str:
        """What must not be divided by a split."""
        return self.group or self.id


@dataclass(frozen=True)
class Slices:
    """Which 2D slices of a volume count: along array axis `axis`, those where `select` holds.

    `nonzero`: some channel is not 0. `foreground`: some pixel is labelled as foreground. `all`: every slice.
    """

    axis: int = 2
    select: str = "nonzero"

    def __post_init__(self) -> None:
        """Check the words."""
        one_of("slices.select", self.select, SELECTIONS)
        one_of("slices.axis", self.axis, (0, 1, 2))


@dataclass(frozen=True)
class Preprocessing:
    """What a network sees: it belongs to the source, and is what the source was trained with.

    Args:
        normalise: `zscore-nonzero` (mean and deviation of each channel over its non-zero voxels), `zscore`, `minmax`,
            `window` (clipped to `window` and scaled to [0, 1], for CT) or `none`.
        spacing: Millimetres per voxel, in the plane for 2D; empty: the image's own.
        size: Voxels that the network sees at once; smaller images are padded, larger ones covered by windows. Empty:
            the whole image.
        orientation: Axis codes such as RAS; empty: the image's own.
        axis: Array axis (in that orientation) along which a 2D network's slices lie.
        overlap: Share of its size by which a window overlaps the next one, below 1.
        window: Lowest and highest intensity for `normalise = "window"`.
        tiling: Of windows: `fixed` (MONAI's: one step, the last window pushed back) or `even` (nnU-Net's: spread evenly).
    """

    normalise: str = "zscore-nonzero"
    spacing: tuple[float, ...] = ()
    size: tuple[int, ...] = ()
    orientation: str = ""
    axis: int = 2
    overlap: float = 0.25
    window: tuple[float, ...] = ()
    tiling: str = "fixed"

    def __post_init__(self) -> None:
        """Check the words and numbers."""
        one_of("preprocessing.normalise", self.normalise, NORMALISATIONS)
        one_of("preprocessing.tiling", self.tiling, TILINGS)
        one_of("preprocessing.axis", self.axis, (0, 1, 2))
        if self.orientation and self.orientation not in ORIENTATIONS:
            raise ValueError(
                f"preprocessing.orientation must be three axis codes such as RAS; got {self.orientation!r}"
            )
        numbers("preprocessing.spacing", self.spacing, Real)
        numbers("preprocessing.size", self.size, Integral)
        numbers("preprocessing.window", self.window, Real, positive=False)
        numbers("preprocessing.overlap", (self.overlap,), Real, positive=False)
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be at least 0 and below 1; got {self.overlap}")
        if (self.normalise == "window") != (
            len(self.window) == 2 and self.window[0] < self.window[1]
        ):
            raise ValueError(
                f'window must be [lowest, highest] for normalise = "window" alone; got {list(self.window)} for '
                f"{self.normalise!r}"
            )

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Preprocessing:
        """From a TOML table, whose lists become tuples.

        Raises:
            ValueError: naming a key that is unknown, or whose value is none of the allowed.
        """
        return _made(cls, table, "preprocessing")


@dataclass(frozen=True)
class Decision:
    """How probabilities become a label: the class with the largest log-probability plus offset.

    Args:
        kind: `argmax`, or where the offsets come from: `tuned` or `adjusted`.
        offsets: One for each class; none, or 0, with `argmax`.
    """

    kind: str = "argmax"
    offsets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the word and the numbers, and that offsets are there where the word says so, and only there."""
        one_of("decision.kind", self.kind, ("argmax", "tuned", "adjusted"))
        numbers("decision.offsets", self.offsets, Real, positive=False)
        if any(self.offsets) if self.kind == "argmax" else not self.offsets:
            raise ValueError(
                "decision.offsets must be one for each class where decision.kind is tuned or adjusted, and none, or 0, "
                f"where it is argmax; got {list(self.offsets)} for {self.kind!r}"
            )

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Decision:
        """From a TOML table, whose list becomes a tuple.

        Raises:
            ValueError: naming a key that is unknown, or whose value is none of the allowed.
        """
        return _made(cls, table, "decision")


@dataclass(frozen=True, eq=False)
class Task:
    """A target: which cases, which channels, which classes, which voxels count.

    Args:
        name: Short name.
        classes: Class names, background first.
        channels: Channel names, in the order of `Case.images`.
        cases: All labelled cases.
        labels: Raw label values of each foreground class. Empty: 1, 2, ... in order.
        background: Raw label values that are background; a value that is declared nowhere is an error.
        ignore: Raw values of voxels that never count.
        region: `all`, or `nonzero`: voxels where every channel is 0 do not count.
        slices: Which slices count for scoring and training.
        test: Ids of the cases that are kept for evaluation.
        training: Preprocessing for sources that are made from this task.
        root: Data folder, for the record.
        layout: How the files under root lie, for the record.
        path: Task file that it was read from; empty if it was built in Python.
    """

    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    background: tuple[int, ...] = (0,)
    ignore: tuple[int, ...] = ()
    region: str = "all"
    slices: Slices = field(default_factory=Slices)
    test: tuple[str, ...] = ()
    training: Preprocessing = field(default_factory=Preprocessing)
    root: str = ""
    layout: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        """Check that names are unique and agree, and that raw values are whole numbers."""
        one_of("region", self.region, ("all", "nonzero"))
        self._check_names()
        labels = dict(self.labels) or {name: (k + 1,) for k, name in enumerate(self.classes[1:])}
        object.__setattr__(self, "labels", labels)
        self._check_values()
        for case in self.cases:
            if len(case.images) != len(self.channels):
                raise ValueError(
                    f"case {case.id} must have one image per channel {list(self.channels)}; got {len(case.images)}"
                )

    def _check_names(self) -> None:
        """Raise ValueError where names are no texts, not unique, too few, or those of cases that do not exist."""
        ids = tuple(case.id for case in self.cases)
        for what, names in (
            ("classes", self.classes),
            ("channels", self.channels),
            ("ids of cases", ids),
        ):
            unique(what, names)
        if len(self.classes) < 2:
            raise ValueError(
                f"classes must name background and at least one more; got {list(self.classes)}"
            )
        if not self.channels:
            raise ValueError("channels must name at least one; got none")
        texts("split.test", self.test)
        if unknown := sorted(set(self.test) - set(ids)):
            raise ValueError(f"split.test names cases that do not exist: {', '.join(unknown)}")

    def _check_values(self) -> None:
        """Raise ValueError where raw values are missing, no whole numbers, or of several meanings."""
        if set(self.labels) != set(self.classes[1:]):
            raise ValueError(
                f"labels must have raw values for {list(self.classes[1:])}; got them for {sorted(self.labels)}"
            )
        for name, values in self.labels.items():
            raw_values(f"labels.{name}", values, some=True)
        raw_values("background", self.background)
        raw_values("ignore", self.ignore)
        raw = [v for values in self.labels.values() for v in set(values)] + list(set(self.ignore))
        said = (0,) in self.labels.values() or 0 in self.ignore  # then 0 is no background
        raw += set(self.background) - ({0} if said else set())
        if twice := [f"{v:g}" for v, count in Counter(raw).items() if count > 1]:
            rule = " (it is background unless a class is 0 alone or 0 is ignored)" * ("0" in twice)
            raise ValueError(
                f"labels, background and ignore must give each raw value one meaning; {', '.join(twice)} has several{rule}"
            )

    def on_channels(self, *names: str) -> Task:
        """The same task on some of its channels, in the order given; it has no file of its own.

        Raises:
            ValueError: if a name is no channel.
        """
        if unknown := [n for n in names if n not in self.channels]:
            raise ValueError(
                f"channels must be among {list(self.channels)} of task {self.name}; got {unknown}"
            )
        places = [self.channels.index(n) for n in names]
        cases = tuple(replace(c, images=tuple(c.images[k] for k in places)) for c in self.cases)
        return replace(self, channels=names, cases=cases, path="")

    def split(self, part: str) -> tuple[Case, ...]:
        """Cases of `train`, `test` or `all`.

        Raises:
            ValueError: if that part has no case.
        """
        one_of("split", part, ("train", "test", "all"))
        chosen = tuple(
            c for c in self.cases if part == "all" or (c.id in self.test) == (part == "test")
        )
        if not chosen:
            raise ValueError(
                f"task {self.name} has no {part} case; look at [split] of its file and at {self.root}"
            )
        return chosen


def _made(kind: type[Made], table: Mapping[str, Any], where: str) -> Made:
    """A dataclass of a TOML table, whose lists become tuples; raise ValueError naming `where` and a key that is unknown."""
    refuse_unknown(table, [f.name for f in fields(kind)], where)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return kind(**values)
