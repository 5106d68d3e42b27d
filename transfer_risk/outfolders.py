"""Folders for results, checked before the work: no data, no run and no file of somebody else is written over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from transfer_risk.files import check_writable, read_json, stale
from transfer_risk.imagefiles import file_and_channel, note_of


def check_new(folder: str | Path) -> None:
    """Raise ValueError where a folder holds more than what a kill left half-written, OSError where it cannot be written."""
    if Path(folder).is_dir() and not all(map(stale, Path(folder).iterdir())):
        raise ValueError(f"{folder}: is not empty; choose another --out")
    check_writable(folder)


def check_results(folder: str | Path) -> None:
    """Raise ValueError where a folder is a run's or lies in one, OSError where it cannot be written."""
    place = Path(folder).resolve()
    for run in (place, *place.parents):
        if all((run / name).is_file() for name in ("config.toml", "manifest.json")):
            where = "is" if run == place else f"lies in {run},"
            raise ValueError(
                f"{folder}: {where} a run folder, which holds nothing but its run; choose another --out"
            )
    check_writable(folder)


def check_apart(folder: str | Path, files: Iterable[str], owner: str) -> None:
    """Raise ValueError where a folder holds one of the data files (or `file#k`) of the owner, such as "task gm"."""
    place = Path(folder).resolve()
    for file in files:
        path = Path(file_and_channel(file)[0])
        if path.parent.resolve() == place:
            raise ValueError(
                f"{folder}: holds data of {owner} ({path.name}), among which nothing else may lie; choose another "
                "folder (--out)"
            )


def check_replaceable(paths: Iterable[Path], ours: Callable[[str], bool], what: str) -> None:
    """Raise ValueError where an image file is there of which the header's note is not `ours`, so that it is no `what`."""
    for path in paths:
        if path.exists() and not ours(note_of(path)):
            raise ValueError(f"{path}: is there, and no {what}; choose another folder (--out)")


def check_tables(folder: str | Path, tables: Mapping[str, Sequence[str]], maker: str) -> None:
    """`check_results`, and ValueError where one of the tables is there and is not of the maker, a command.

    Args:
        folder: For the tables.
        tables: By the name of each, the first columns (CSV) or the keys (JSON) by which it is known.
        maker: Of the tables, such as "score".
    """
    check_results(folder)
    for path in (Path(folder) / name for name in tables):
        if path.exists() and not _made(path, tables[path.name]):
            raise ValueError(
                f"{path}: is there, and another table than {maker} writes (it begins with {_begin(path)[:60]!r}); "
                "choose another --out"
            )


def _made(path: Path, names: Sequence[str]) -> bool:
    """Whether a CSV file begins with these columns, or a JSON file has these keys."""
    if path.suffix == ".csv":
        return _begin(path).split(",")[: len(names)] == list(names)
    try:
        content = read_json(path)
    except ValueError:
        return False
    return isinstance(content, dict) and content.keys() >= set(names)


def _begin(path: Path) -> str:
    """The first line of a text, or what there is in its place."""
    if path.is_dir():
        return "a folder"
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().strip()
