"""Files that are either whole or not there, and what image files are called."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

IMAGES = (".nii.gz", ".nii", ".mgz", ".img", ".hdr")
"""Endings of image files."""


def stem_and_ending(name: str) -> tuple[str, str]:
    """Name of an image file without its ending, and the ending, which may be in upper case; empty where it is none.

    >>> stem_and_ending("a.b.NII.GZ"), stem_and_ending("a.img"), stem_and_ending("a.txt")
    (('a.b', '.NII.GZ'), ('a', '.img'), ('a.txt', ''))
    """
    ending = next((e for e in IMAGES if name.lower().endswith(e)), "")
    place = len(name) - len(ending)
    return name[:place], name[place:]


@contextmanager
def written(path: str | Path) -> Iterator[str]:
    """Path of a temporary file beside `path`, which takes its place if the block succeeds and vanishes if not.

    Raises:
        OSError: of the file system, naming the file that was to be written.
    """
    goal = Path(path)
    ending = "".join(goal.suffixes[-2:]) if goal.suffix == ".gz" else goal.suffix
    goal.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=ending, dir=goal.parent)
    os.close(handle)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, goal)
    except OSError as error:
        raise OSError(
            error.errno, f"{goal}: could not be written ({error.strerror or error})"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def stale(path: Path) -> bool:
    """Whether it is a temporary file of `written` that a kill left."""
    return bool(re.fullmatch(r"\.\w{8}(\.\w+)+", path.name)) and path.is_file()


def check_writable(folder: str | Path) -> None:
    """Raise OSError where no file could be written in a folder, before the work that would be lost.

    A folder that is not there yet is tried within a temporary one in the nearest folder that is: nothing is left, and
    nobody who makes the same folder at that moment is disturbed.
    """
    goal = Path(os.path.abspath(folder))
    there = next(p for p in (goal, *goal.parents) if os.path.lexists(p))
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=there) as temporary:
            tried = Path(temporary, goal.relative_to(there))
            tried.mkdir(parents=True, exist_ok=True)
            with open(tried / "file", "wb") as file:
                file.write(b"\n")
    except OSError as error:
        raise OSError(
            error.errno,
            f"{folder}: could not be written ({error.strerror or error}); choose another --out",
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", newline="\n")


def path_from(folder: Path, path: Path) -> str:
    """A path as it is seen from a folder, with slashes; the whole path where no way leads there, from another drive."""
    with suppress(ValueError):
        path = Path(os.path.relpath(path, folder))
    return path.as_posix()


def read_json(path: str | Path, *, remedy: str = "") -> Any:
    """Content of a JSON file.

    Args:
        path: Of the file.
        remedy: What to do where it is missing or damaged, for the message.

    Raises:
        ValueError: naming the file, if it is missing or no JSON.
    """
    end = f"; {remedy}" if remedy else ""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file{end}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is no readable JSON ({error}){end}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def digest(path: Path) -> str:
    """SHA-256 of a file; ValueError where there is none."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Errors about a file's content as ValueError with its name."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: needs the key {error.args[0]!r}") from None
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        named = str(path) in str(error)
        raise ValueError(str(error) if named else f"{path}: {error}") from None
