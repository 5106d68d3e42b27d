"""iSeg-2019: `subject-N-{T1,T2,label}.{hdr,img}` in one folder; the training set is subject-1 to subject-10.

The files are Analyze 7.5, sometimes with a trailing axis of length 1 and with no orientation to be trusted
(`imagefiles.load` takes none from them). Label values 0, 10, 150, 250 are background, CSF, grey and white matter. Files
converted to NIfTI are read too. Subjects beyond 10 belong to the validation and test sets, whose labels are not given out;
one with a label counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from transfer_risk.layouts.dataset import Choice, Dataset, image_files, natural
from transfer_risk.tasks import Case

CHANNELS = ("T1", "T2")
LABELS = {"csf": (10,), "gm": (150,), "wm": (250,)}
SUBJECTS = 10
FILE = re.compile(r"(subject-\d+)-(T1|T2|label)", re.IGNORECASE)


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    return any(FILE.fullmatch(path.name.partition(".")[0]) for path in root.iterdir())


def read_dataset(root: Path) -> Dataset:
    """The data set, subject-2 before subject-10; a subject of the training set without all of its files is incomplete."""
    found: dict[str, dict[str, Path]] = {f"subject-{k}": {} for k in range(1, SUBJECTS + 1)}
    for name, path in image_files(root, key=str.lower).items():
        if match := FILE.fullmatch(name):
            found.setdefault(match[1], {})[match[2].upper()] = path
    cases, incomplete = [], {}
    for subject in sorted(found, key=natural):
        files = found[subject]
        if int(subject.partition("-")[2]) > SUBJECTS and "LABEL" not in files:
            continue
        if problem := _problem(root, subject, files):
            incomplete[subject] = problem
        else:
            images = tuple(str(files[c]) for c in CHANNELS)
            cases.append(Case(subject, images, str(files["LABEL"])))
    return Dataset("iseg2019", CHANNELS, LABELS, tuple(cases), incomplete=incomplete)


def choices(dataset: Dataset) -> Iterator[Choice]:
    """The paper's six binary tasks, such as gm-t1."""
    for name in dataset.labels:
        for channel in dataset.channels:
            yield Choice(f"{name}-{channel.lower()}", (name,), (channel,))


def _problem(root: Path, subject: str, files: dict[str, Path]) -> str:
    """What a subject lacks; empty if nothing."""
    if not files:
        return (
            f"{root}: has no {subject}; the training set of iSeg-2019 is subject-1 to subject-{SUBJECTS}, "
            "each with T1, T2 and label as .hdr and .img"
        )
    for part in (*CHANNELS, "label"):
        path = files.get(part.upper())
        if path is None:
            return f"{root}: has no {subject}-{part}.img with its .hdr"
        if path.suffix.lower() == ".img" and not _header(path):
            return f"{path}: has no {path.stem}.hdr beside it; an Analyze image needs both"
    return ""


def _header(path: Path) -> bool:
    return any(path.with_suffix(ending).is_file() for ending in (".hdr", ".HDR"))
