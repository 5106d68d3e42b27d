"""Arrays that wait on disk, as many as there are, in one file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True, eq=False)
class Drawer:
    """Arrays of one type behind each other in a file.

    Args:
        dtype: Of all.
        file: Open, and empty at first.
        shapes: Of those that are in it.
    """

    dtype: np.dtype[Any]
    file: IO[bytes]
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, data: NDArray[Any]) -> None:
        """Write an array behind the others.

        Raises:
            OSError: naming the folder of temporary files, if it is full.
        """
        try:
            self.file.write(np.ascontiguousarray(data, dtype=self.dtype).tobytes())
            self.file.flush()
        except OSError as error:
            raise OSError(
                error.errno,
                f"{tempfile.gettempdir()}: the training data could not be kept there ({error.strerror or error}); set "
                "TMPDIR to a folder with more space",
            ) from error
        self.shapes.append(data.shape)

    def arrays(self) -> list[NDArray[Any]]:
        """All arrays in their order, paged in when they are read; they live on when the file is closed."""
        ends = np.cumsum([0, *map(math.prod, self.shapes)]).tolist()
        whole = np.memmap(self.file, self.dtype, "r") if ends[-1] else np.empty(0, self.dtype)
        places = zip(pairwise(ends), self.shapes, strict=True)
        return [whole[a:b].reshape(shape) for (a, b), shape in places]


@contextmanager
def drawer(dtype: DTypeLike) -> Iterator[Drawer]:
    """A new drawer in an unnamed temporary file: one open file, however many arrays there are."""
    with tempfile.TemporaryFile() as file:
        yield Drawer(np.dtype(dtype), file)
