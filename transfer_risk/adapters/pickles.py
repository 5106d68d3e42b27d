"""Pickles read as data: torch checkpoints with weights_only, other pickles as plain containers and numpy arrays."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

SCALAR: Any = np.float64(0).__reduce__()[0]  # numpy._core.multiarray.scalar, whose place has moved
RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
DTYPES = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "Float16", "Float32", "Float64")
LARGEST_PICKLE = 2**26  # bytes


def _numpy_names() -> dict[str, Any]:
    """What a numpy scalar needs, under its old and its new name."""
    names: dict[str, Any] = {"numpy.dtype": np.dtype}
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray.scalar"] = SCALAR
    for name in DTYPES:
        names[f"numpy.dtypes.{name}DType"] = getattr(np.dtypes, f"{name}DType")
    return names


def load_checkpoint(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """A torch checkpoint: tensors, plain containers and numpy scalars; nothing in it is run.

    Args:
        path: File.
        trust: Load whatever else it holds as code, with a warning.

    Raises:
        ValueError: naming the file, if it is missing or damaged, or wants anything else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    strange = _strange_names(path)
    if strange and not trust:
        raise ValueError(
            f"{path}: is a pickle that wants {', '.join(strange[:5])}; only tensors, plain containers and numpy "
            "numbers are loaded. If you trust whoever made it, load it with trust=True (--trust), which runs its code"
        )
    if strange:
        warnings.warn(f"{path}: trusted, so its code was run: {', '.join(strange)}", stacklevel=2)
        return _table(path, torch.load(path, map_location="cpu", weights_only=False))
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (value, name) for name, value in _numpy_names().items()
    ]
    with torch.serialization.safe_globals(allowed):
        try:
            return _table(path, torch.load(path, map_location="cpu", weights_only=True))
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
            raise damaged(path, error) from None


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
        plain = _numpy_names() | {
            "collections.OrderedDict": OrderedDict,
            "numpy.ndarray": np.ndarray,
            "_codecs.encode": _latin1,
            "numpy.core.multiarray._reconstruct": _empty_array,
            "numpy._core.multiarray._reconstruct": _empty_array,
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


def _strange_names(path: Path) -> list[str]:
    """Names that a checkpoint wants beyond what is safe."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise damaged(path, error) from None
    return sorted(set(names) - set(_numpy_names()))


def _table(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a dictionary; holds a {type(content).__name__}")
    return content


def damaged(path: Path, error: Exception) -> ValueError:
    """The sentence for a file that cannot be read to its end."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return ValueError(
        f"{path}: is not whole or damaged ({reason}); copy it again from where it came"
    )
