"""From a data folder to task files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transfer_risk.callbacks import Tell
from transfer_risk.files import explained, path_from, write_text
from transfer_risk.layouts.choices import choices_of, written_twice
from transfer_risk.layouts.dataset import Choice, Dataset
from transfer_risk.layouts.folders import labelled
from transfer_risk.layouts.reading import task_of
from transfer_risk.layouts.splits import grouped, tested
from transfer_risk.tasks import Slices

CT = (
    'CT is normalised by zscore, as 0 HU is no background; or write normalise = "window" with window = [LOWEST, HIGHEST] '
    "in [training]"
)


def write_tasks(
    root: str | Path,
    out: str | Path,
    *,
    layout: str | None = None,
    binary: bool = False,
    fold: tuple[int, int] | None = None,
    group: str | None = None,
    partitions: str | Path | None = None,
    allow_missing: bool = False,
    note: Tell | None = None,
    failed: Tell | None = None,
) -> list[Path]:
    """Write one task file for each task in a data folder, or in each of its subfolders; the files' paths.

    Args:
        root: A data set, or a folder of data sets.
        out: Folder for `<dataset>.toml`, or `<dataset>-<class>-<channel>.toml` with `binary`; iSeg-2019 gives the paper's
            six binary tasks, such as `gm-t1.toml`.
        layout: One of LAYOUTS; recognised where not given.
        binary: One task for each class on each channel instead of one for all.
        fold: (k, n): test cases are fold k of n, of splits_final.json where there is one, instead of its first fold or 30 %.
        group: Regular expression that finds the patient in a case's id (see `grouped`): no patient is divided by the
            split, unless it is that of splits_final.json.
        partitions: Partitioning csv of FeTS: one task for each partition on each of T1, T2 and FLAIR, such as `13-t1.toml`.
        allow_missing: Go on with the complete cases of an incomplete folder, which the files list, and without a folder
            beside others that has no labelled case.
        note: Called with a sentence for each case or folder that is left out, and where a channel is CT.
        failed: Called with a sentence for each partition with fewer subjects than folds, whose tasks are left out; without
            it that is an error.

    Raises:
        ValueError: naming folder or file, if no layout fits, the folder is incomplete, `partitions` is not its own, a task
            has too few groups for the fold or contradicts its data, two tasks have one name, or a file of that name is
            there already with other content; nothing is written then.
    """
    tell, fail = note or (lambda _: None), failed or _refuse
    folds = fold[1] if fold else 1
    texts: dict[Path, str] = {}
    makers: dict[Path, tuple[Path, Choice]] = {}
    for folder, found, dataset in labelled(
        Path(root), layout, allow_missing=allow_missing, tell=tell
    ):
        if group is not None:
            with explained(folder):
                dataset = replace(dataset, cases=grouped(dataset.cases, group))
        choices, problems, small = choices_of(
            dataset, folder, found, binary=binary, partitions=partitions, folds=folds
        )
        if not allow_missing:
            _refuse_incomplete(problems)
        for problem in small:
            fail(problem)
        for problem in problems:
            tell(f"left out: {problem}")
        if any(_tomography(choice) for choice in choices):
            tell(f"{folder}: {CT}")
        for choice in choices:
            path = Path(out) / f"{choice.name}.toml"
            if path in makers:
                raise ValueError(written_twice(path.name, makers[path], (folder, choice)))
            makers[path] = (folder, choice)
            try:
                split = _split(dataset, choice, fold, group)
                table = _table(dataset, folder, found, choice, split, Path(out))
                task_of(table, dataset, folder)
            except ValueError as error:
                raise ValueError(f"{folder}, task {choice.name}: {error}") from None
            texts[path] = _toml(table)
    _refuse_to_replace(texts)
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def _refuse(problem: str) -> None:
    raise ValueError(problem)


def _refuse_incomplete(problems: Sequence[str]) -> None:
    """Raise ValueError where a folder is incomplete, naming the first case."""
    if problems:
        more = f" (and {len(problems) - 1} more such cases)" if len(problems) > 1 else ""
        raise ValueError(
            f"{problems[0]}{more}; complete the folder, or go on without with allow_missing (--allow-missing)"
        )


def _refuse_to_replace(texts: Mapping[Path, str]) -> None:
    """Raise ValueError where a file is there already with other content: someone may have edited it."""
    differing = [
        path
        for path, text in texts.items()
        if path.is_file() and path.read_text(encoding="utf-8", errors="replace") != text
    ]
    if differing:
        more = f" (and {len(differing) - 1} more such files)" if len(differing) > 1 else ""
        raise ValueError(
            f"{differing[0]}: is there already and differs from what would be written{more}; delete it, or give another "
            "folder for the tasks (--out)"
        )


def _split(
    dataset: Dataset, choice: Choice, fold: tuple[int, int] | None, group: str | None
) -> dict[str, Any]:
    """The table `[split]`; cases are listed where the task does not have all."""
    cases = [c for c in dataset.cases if not choice.cases or c.id in choice.cases]
    return {
        **({"cases": list(choice.cases)} if choice.cases else {}),
        **({"group": group} if group is not None else {}),
        "test": list(tested(dataset, cases, fold)),
    }


def _table(
    dataset: Dataset,
    folder: Path,
    layout: str,
    choice: Choice,
    split: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    others = [v for name, own in dataset.labels.items() if name not in choice.labels for v in own]
    # file pairs declare no values: what they hold now is written down, so that what comes later is noticed
    found = {"background": [0, *others]} if layout == "pairs" else {}
    return {
        "format": 1,
        "name": choice.name,
        "root": path_from(out.resolve(), folder.resolve()),
        "layout": layout,
        "channels": list(choice.channels),
        "classes": ["background", *choice.labels],
        "ignore": list(dataset.ignore),
        **found,
        "region": "all",
        "labels": {name: list(values) for name, values in dataset.values(choice.labels).items()},
        "slices": asdict(Slices()),
        "split": split,
        "training": {"normalise": "zscore" if _tomography(choice) else "zscore-nonzero"},
    }


def _tomography(choice: Choice) -> bool:
    """Whether a channel is CT, where 0 HU is water: `zscore-nonzero` would make a hole of it."""
    return any(str(channel).strip().lower() == "ct" for channel in choice.channels)


def _toml(table: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(table)
