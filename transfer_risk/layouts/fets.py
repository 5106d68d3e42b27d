"""FeTS 2021 and 2022: one folder for each subject, with `<subject>_{t1,t1ce,t2,flair,seg}.nii.gz`.

Subjects are `FeTS21_Training_001` (2021) or `FeTS2022_01341` (2022); file names in upper case and `.nii` occur. Label
values 0, 1, 2, 4 are background, NCR, ED, ET. The partitioning csv has the columns `Subject_ID,Partition_ID` with ids such
as 01 (2021) or `Partition_ID,Subject_ID` with ids such as 1 (2022): they are read by name, leading zeros (and the .0 of a
spreadsheet) are dropped.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from transfer_risk.layouts.dataset import Choice, Dataset, image_files, natural
from transfer_risk.tasks import Case

CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
TASK_CHANNELS = ("T1", "T2", "FLAIR")
LABELS = {"ncr": (1,), "ed": (2,), "et": (4,)}
COLUMNS = ("Subject_ID", "Partition_ID")
RELEASES = {"2021": r"FeTS21_Training_\d+", "2022": r"FeTS2022_\d+"}


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    return any(_release(path.name) for path in root.iterdir() if path.is_dir())


def read_dataset(root: Path) -> Dataset:
    """The data set of one release; a subject without all of its five files is incomplete.

    Raises:
        ValueError: if the folder mixes the releases.
    """
    folders = sorted(
        (p for p in root.iterdir() if p.is_dir() and _release(p.name)),
        key=lambda p: natural(p.name),
    )
    release = _one_release(str(root), [p.name for p in folders])
    cases, incomplete = [], {}
    for folder in folders:
        files = image_files(folder, key=str.lower)
        wanted = [f"{folder.name}_{part.lower()}" for part in (*CHANNELS, "seg")]
        missing = [name for name in wanted if name.lower() not in files]
        if missing:
            incomplete[folder.name] = (
                f"{folder}: has no {missing[0]}.nii.gz (nor .nii, nor in upper case)"
            )
        else:
            *images, label = (str(files[name.lower()]) for name in wanted)
            cases.append(Case(folder.name, tuple(images), label))
    return Dataset(f"fets{release}", CHANNELS, LABELS, tuple(cases), incomplete=incomplete)


def read_partitions(path: Path) -> dict[str, str]:
    """Partition of each subject, without leading zeros.

    Raises:
        ValueError: naming the file, if columns are missing or no subject is listed; naming the line too, if a field is
            empty, a partition is no whole number, or a subject occurs twice, in whatever letter case.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is no readable csv ({error})") from None
    if missing := [name for name in COLUMNS if name not in header]:
        raise ValueError(
            f"{path}: must have the columns {' and '.join(COLUMNS)}; {missing[0]} is not among {header}"
        )
    partitions: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in rows:
        where = f"{path}: line {line}"
        subject, partition = ((row[name] or "").strip() for name in COLUMNS)
        if not subject or not partition:
            raise ValueError(f"{where} must have a subject and a partition; got {row}")
        if other := lines.get(subject.lower()):
            raise ValueError(
                f"{where} lists {subject} a second time, after line {other}; remove one"
            )
        lines[subject.lower()] = line
        partitions[subject] = _number(partition, where)
    if not partitions:
        raise ValueError(f"{path}: must list subjects below its header; it lists none")
    return partitions


def _number(partition: str, where: str) -> str:
    """A partition's number as it is in names of tasks: `1` for 01 and for the 1.0 of a spreadsheet."""
    if not (match := re.fullmatch(r"(\d+)(\.0+)?", partition, re.ASCII)):
        raise ValueError(
            f"{where} must have a whole number from 0 as {COLUMNS[1]}; got {partition!r}; correct it"
        )
    return str(int(match[1]))


def choices(
    dataset: Dataset, root: Path, path: Path, *, folds: int
) -> tuple[list[Choice], list[str], list[str]]:
    """The paper's tasks for every partition of the csv that has as many subjects as folds, and what is left out.

    Each task has the three classes on one of T1, T2 and FLAIR and is named like 13-t1. There is a sentence for each subject
    without folder or partition, and, in a list of its own, for each partition that is too small.
    """
    partitions = read_partitions(path)
    release = _one_release(str(path), list(partitions))
    if dataset.name != f"fets{release}":
        raise ValueError(
            f"{path}: lists subjects of FeTS {release}, {root} holds those of FeTS {dataset.name[4:]}; "
            "take the csv that came with the folder"
        )
    own = {subject.lower(): partition for subject, partition in partitions.items()}
    folders = {case.id.lower() for case in dataset.cases} | {s.lower() for s in dataset.incomplete}
    problems = [
        f"{root}: has no folder {subject}, which {path} lists"
        for subject in sorted(partitions, key=natural)
        if subject.lower() not in folders
    ]
    problems += [
        f"{path}: does not list {case.id}, whose folder is in {root}"
        for case in dataset.cases
        if case.id.lower() not in own
    ]
    made, small = [], []
    for partition in sorted(set(partitions.values()), key=natural):
        cases = [c for c in dataset.cases if own.get(c.id.lower()) == partition]
        subjects = len({c.unit for c in cases})
        if 0 < subjects < folds:
            small.append(
                f"{path}: partition {partition} must have at least {folds} subjects for as many folds; it has {subjects} in "
                f"{root}; give fewer folds (--fold)"
            )
            continue
        for channel in TASK_CHANNELS if cases else ():
            name = f"{partition}-{channel.lower()}"
            made.append(Choice(name, tuple(dataset.labels), (channel,), tuple(c.id for c in cases)))
    return made, problems, small


def _release(name: str) -> str:
    """Year of the release that a subject's name belongs to; empty if none."""
    return next((y for y, p in RELEASES.items() if re.fullmatch(p, name, re.IGNORECASE)), "")


def _one_release(where: str, names: Sequence[str]) -> str:
    """The one year that all names belong to."""
    examples: dict[str, str] = {}
    for name in names:
        examples.setdefault(_release(name), name)
    if strange := examples.pop("", ""):
        raise ValueError(
            f"{where}: names the subject {strange!r}; FeTS has FeTS21_Training_001 (2021) or FeTS2022_01341 (2022)"
        )
    if len(examples) > 1:
        first, second = (f"{name} of {year}" for year, name in sorted(examples.items()))
        raise ValueError(f"{where}: mixes FeTS releases ({first}, {second}); keep one of them")
    return next(iter(examples), "")
