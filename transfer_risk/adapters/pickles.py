"""Pickles read as data: plain containers and numpy arrays, nothing else."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

SCALAR: Any = np.float64(0).__reduce__()[0]  # numpy._core.multiarray.scalar, whose place has moved
RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
FROM_BUFFER: Any = np.zeros(0).__reduce_ex__(5)[0]  # an array of bytes that are there
DTYPES = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "Float16", "Float32", "Float64")
LARGEST_PICKLE = 2**26  # bytes


def numpy_names() -> dict[str, Any]:
    """What a pickled numpy number needs, by its old and its new name: harmless, it makes numbers."""
    names: dict[str, Any] = {"numpy.dtype": np.dtype}
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray.scalar"] = SCALAR
    for name in DTYPES:
        names[f"numpy.dtypes.{name}DType"] = getattr(np.dtypes, f"{name}DType")
    return names


def load_plain(path: Path) -> Any:
    """Content of a pickle of plain containers and numpy arrays; nothing in it is run.

    Raises:
        ValueError: naming the file, if it is damaged or wants anything else.
    """
    if path.stat().st_size > LARGEST_PICKLE:
        raise ValueError(
            f"{path}: must be at most {LARGEST_PICKLE} bytes; has {path.stat().st_size}"
        )
    with path.open("rb") as file:
        try:
            return _Plain(file, encoding="latin1").load()
        except _Refused as error:
            raise ValueError(
                f"{path}: is a pickle that wants {error}; only plain containers and numpy arrays are read. "
                "Delete it if the image's own geometry will do"
            ) from None
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError) as error:
            raise damaged(path, error) from None
        except (IndexError, AttributeError, MemoryError, ImportError) as error:
            raise damaged(path, error) from None


class _Refused(Exception):
    """The name that a pickle wanted."""


class _Plain(pickle.Unpickler):
    """Admits plain containers and numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """What the name stands for, if it is plain."""
        full = f"{module}.{name}"
        plain = numpy_names() | {
            "collections.OrderedDict": OrderedDict,
            "numpy.ndarray": np.ndarray,
            "_codecs.encode": _latin1,
            "numpy.core.multiarray._reconstruct": _empty_array,
            "numpy._core.multiarray._reconstruct": _empty_array,
            "numpy.core.numeric._frombuffer": FROM_BUFFER,
            "numpy._core.numeric._frombuffer": FROM_BUFFER,
        }
        if full not in plain:
            raise _Refused(full)
        return plain[full]


def _empty_array(kind: Any, shape: Any, code: Any) -> Any:
    """The empty array that numpy's pickles begin with; another would take memory before its content is seen."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise ValueError(f"declares an array of shape {shape} without content")
    return RECONSTRUCT(np.ndarray, (0,), code)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Bytes that old pickles write as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("declares bytes in another way than numpy does")
    return text.encode("latin1")


def damaged(path: Path, error: Exception) -> ValueError:
    """The sentence for a file that cannot be read to its end."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return ValueError(
        f"{path}: is not whole or damaged ({reason}); copy it again from where it came"
    )
