"""Arrays of .npz and .npy files, whose headers are believed only as far as the bytes go."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from transfer_risk.adapters.pickles import damaged


def load_array(path: Path, names: tuple[str, ...]) -> tuple[str, NDArray[Any]]:
    """Name and floating-point array of the first of the names in an .npz, or of an .npy; sizes are checked before.

    Raises:
        ValueError: naming the file, if it is damaged, has none of the names, or declares anything but a 4D array of
            floating-point numbers that its bytes can hold.
    """
    try:
        if path.suffix != ".npz":
            with path.open("rb") as file:
                _check_header(path, file, path.stat().st_size, path.stat().st_size)
                file.seek(0)
                return "", npy.read_array(file, allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            name = next((n for n in names if n in members), None)
            if name is None:
                raise ValueError(
                    f"{path}: must hold {' or '.join(names)}; holds {', '.join(members) or 'nothing'}"
                )
            member = members[name]
            with archive.open(member) as stream:
                _check_header(path, stream, member.file_size, member.compress_size)
            with archive.open(member) as stream:
                return name, npy.read_array(stream, allow_pickle=False)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise damaged(path, error) from None


def _check_header(path: Path, stream: Any, size: int, packed: int) -> None:
    """Raise where a header declares another array than floating-point numbers that fill the file."""
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, _, dtype = read(stream)
    except (ValueError, KeyError) as error:
        raise damaged(path, error) from None
    if dtype.hasobject or dtype.kind != "f":
        raise ValueError(f"{path}: must hold floating-point probabilities; declares {dtype}")
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"{path}: must hold a 4D array; declares the shape {shape}")
    declared = dtype.itemsize
    for length in shape:  # Python integers: no overflow
        declared *= int(length)
    if (
        declared != size - stream.tell() or size > 1100 * packed + 1024
    ):  # deflate packs 1:1032 at most
        raise ValueError(
            f"{path}: declares an array {shape} of {declared} bytes, which its {packed} bytes cannot hold; make it again"
        )
