"""Arrays of .npz and .npy files, whose headers are believed only as far as the bytes go."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from transfer_risk.adapters.pickles import damaged


@dataclass(frozen=True)
class Stored:
    """A 4D array of floating-point numbers in a file, not read yet.

    Args:
        path: .npz or .npy file.
        name: Of the array in an .npz.
        shape: As the header declares it, and as the file's bytes can hold.
    """

    path: Path
    name: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, names: tuple[str, ...]) -> Stored:
        """The first of the names in an .npz, or the array of an .npy; only the header is read.

        Raises:
            ValueError: naming the file, if it is damaged, has none of the names, or declares anything but a 4D array of
                floating-point numbers that its bytes can hold.
        """
        with _opened(path):
            if path.suffix == ".npy":
                size = path.stat().st_size
                with path.open("rb") as file:
                    return cls(path, "", _declared(path, file, size, size))
            with zipfile.ZipFile(path) as archive:
                members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
                name = next((n for n in names if n in members), "")
                if not name:
                    raise ValueError(
                        f"{path}: must hold {' or '.join(names)}; holds {', '.join(members) or 'nothing'}"
                    )
                member = members[name]
                with archive.open(member) as stream:
                    shape = _declared(path, stream, member.file_size, member.compress_size)
                    return cls(path, name, shape)

    def read(self) -> NDArray[Any]:
        """The array.

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        with _opened(self.path):
            if not self.name:
                return np.asarray(np.load(self.path, allow_pickle=False))
            with np.load(self.path, allow_pickle=False) as archive:
                return np.asarray(archive[self.name])


def check_packing(path: Path, size: int, packed: int) -> None:
    """Raise ValueError where so many bytes can not have been packed into so few: deflate packs 1:1032 at most."""
    if size > 1100 * packed + 1024:
        raise ValueError(
            f"{path}: declares {size} bytes of data, which its {packed} bytes cannot hold; make it again"
        )


def _declared(path: Path, stream: IO[bytes], size: int, packed: int) -> tuple[int, ...]:
    """Shape that a header declares, if it is a 4D array of floating-point numbers that fills the file."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{path}: must be of npy format 1 or 2; is of {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or dtype.kind != "f":
        raise ValueError(f"{path}: must hold floating-point probabilities; declares {dtype}")
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"{path}: must hold a 4D array; declares the shape {shape}")
    declared = math.prod(int(n) for n in (dtype.itemsize, *shape))
    check_packing(path, max(declared, size), packed)
    if declared != size - stream.tell():
        raise ValueError(
            f"{path}: declares an array {shape} of {declared} bytes; has {size - stream.tell()}; make it again"
        )
    return tuple(shape)


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    """Name the file in what zip, deflate and numpy say of a damaged one."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise damaged(path, error) from None
    except ValueError as error:
        raise error if str(error).startswith(str(path)) else damaged(path, error) from None
