"""From a task file or a data folder to a task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer_risk.files import explained
from transfer_risk.layouts import fets, iseg2019, msd, nnunet, pairs
from transfer_risk.layouts.dataset import ENDINGS, Dataset
from transfer_risk.layouts.keys import check_keys
from transfer_risk.layouts.splits import grouped, tested
from transfer_risk.tasks import Case, Preprocessing, Slices, Task
from transfer_risk.tomlfiles import read_toml

LAYOUTS = {"nnunet": nnunet, "msd": msd, "iseg2019": iseg2019, "fets": fets, "pairs": pairs}


def load_task(path: str | Path) -> Task:
    """Task of a task.toml.

    `[split] cases` restricts the task to some cases of the data folder (a partition, or those that are complete); without it
    the task has all of them. `[split] test` says which of them are kept for evaluation, `[split] group` which patient each
    is of (see `grouped`).

    Raw values that are no class's and not ignored are background where the data set declares them or `background` has them;
    0 always is. File pairs declare none: a task file with `[labels]` and `background`, as `write_tasks` makes it, says all,
    and no label file is read here; where one of them is missing, every value that the label files hold counts as declared.

    Raises:
        ValueError: naming the file, if it or the data folder is missing, incomplete or contradictory.
    """
    table = read_toml(path)
    with explained(path):
        check_keys(table)
        root = (Path(path).parent / table["root"]).resolve()
        said = table.get("labels") if "background" in table else None
        dataset = read_dataset(root, table["layout"], table.get("channels", ()), said or None)
        return replace(task_of(table, dataset, root), path=str(path))


def read_dataset(
    root: Path,
    layout: str | None = None,
    channels: Sequence[str] = (),
    classes: Mapping[str, Sequence[int]] | None = None,
    *,
    unlabelled: bool = False,
) -> Dataset:
    """The data set in a folder, its layout recognised where not given; of `pairs`, with these channels and classes if given.

    Other layouts say themselves which there are.

    Raises:
        ValueError: if there is no such folder, no layout fits, or, unless `unlabelled`, no complete labelled case is in it.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such data folder")
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    name = layout or recognised(root)
    if name is None:
        raise ValueError(
            f"{root}: fits no layout; nnunet and msd want a dataset.json, pairs want the folders images and labels"
        )
    try:
        said = (channels, classes) if name == "pairs" else ()
        dataset: Dataset = LAYOUTS[name].read_dataset(root, *said)
    except KeyError as error:
        raise ValueError(f"{root / 'dataset.json'}: needs the key {error.args[0]!r}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{root / 'dataset.json'}: is not as the layout {name} has it ({error})"
        ) from None
    if not dataset.cases and not unlabelled:
        raise ValueError(no_case(dataset, root, name))
    return dataset


def recognised(root: Path) -> str | None:
    """Name of the layout that a folder has; None if it fits none."""
    return next((name for name, module in LAYOUTS.items() if module.matches(root)), None)


def no_case(dataset: Dataset, root: Path, layout: str) -> str:
    """Why a data set without any complete labelled case has none."""
    endings = f"files that are read end in {', '.join(ENDINGS)}"
    reason = next(iter(dataset.incomplete.values()), endings)
    return f"{root}: holds no labelled case in the layout {layout}; {reason}"


def task_of(table: dict[str, Any], dataset: Dataset, root: Path) -> Task:
    """Task from a file's table and the data set that it speaks of.

    Raises:
        ValueError: if they contradict each other.
    """
    channels = tuple(table.get("channels", dataset.channels))
    if missing := [c for c in channels if c not in dataset.channels]:
        raise ValueError(
            f"channels must be among {list(dataset.channels)} of {root}; got {missing}"
        )
    classes, labels = _classes(table, dataset, root)
    ignore = tuple(table.get("ignore", dataset.ignore))
    taken = {v for values in labels.values() for v in values} | set(ignore)
    declared = {v for values in dataset.labels.values() for v in values}
    background = set(table.get("background", ())) | {0} | (declared - taken)
    order = [dataset.channels.index(c) for c in channels]
    split = table.get("split", {})
    cases = tuple(
        Case(c.id, tuple(c.images[k] for k in order), c.label, c.group)
        for c in _chosen(dataset, split.get("cases"), root)
    )
    if "group" in split:
        cases = grouped(cases, split["group"])
    return Task(
        name=table["name"],
        classes=classes,
        channels=channels,
        cases=cases,
        labels=labels,
        background=tuple(sorted(background)),
        ignore=ignore,
        region=table.get("region", "all"),
        slices=Slices(**table.get("slices", {})),
        test=tuple(split["test"] if "test" in split else tested(dataset, cases)),
        training=Preprocessing.of(table.get("training", {})),
        root=str(root),
        layout=table["layout"],
    )


def _classes(
    table: Mapping[str, Any], dataset: Dataset, root: Path
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Classes that the file names, and the raw values of all but the first: those of the file, else of the data set."""
    classes = tuple(table.get("classes", ("background", *dataset.labels)))
    labels = {name: tuple(values) for name, values in table.get("labels", {}).items()}
    if classes and classes[0] in {*dataset.labels, *labels}:
        raise ValueError(
            f"classes must have background first; got {list(classes)}, of which {classes[0]!r} is a class of {root} or of "
            f"[labels]; write classes = {json.dumps(['background', *classes], ensure_ascii=False)}"
        )
    if labels:
        return classes, labels
    if missing := [c for c in classes[1:] if c not in dataset.labels]:
        raise ValueError(
            f"classes must be background and some of {list(dataset.labels)} of {root}, or have their raw values in "
            f"[labels]; got {missing}"
        )
    return classes, dataset.values(classes[1:])


def _chosen(dataset: Dataset, ids: list[str] | None, root: Path) -> tuple[Case, ...]:
    """The cases that the file lists; all if it lists none, and then all must be complete."""
    if ids is None:
        for reason in dataset.incomplete.values():
            raise ValueError(
                f"{reason}; complete the folder, or list the cases to use in [split] cases of the task "
                "(tasks --allow-missing does)"
            )
        return dataset.cases
    known = {case.id for case in dataset.cases}
    if missing := [i for i in ids if i not in known]:
        reason = dataset.incomplete.get(missing[0], f"{root} has no complete case of that name")
        raise ValueError(f"split.cases lists {missing[0]!r}; {reason}")
    wanted = set(ids)
    return tuple(case for case in dataset.cases if case.id in wanted)
