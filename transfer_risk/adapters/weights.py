"""Weights into networks: safetensors, or state dicts that hold nothing but tensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from transfer_risk.adapters.inspection import kind_of, plainly_loaded, unsafe_globals

PREFIXES = ("module.", "_orig_mod.", "model.")
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "network_weights", "net")


def load_weights(network: nn.Module, path: Path, *, trust: bool = False) -> tuple[str, ...]:
    """Load a file of weights into a network; sentences on what had to be repaired.

    Args:
        network: Has to have exactly the file's parameters, but for the prefixes that wrappers put before their names.
        path: `.safetensors`, or a checkpoint whose tensors are at the top or under a usual name such as `state_dict`.
        trust: Unpickle objects that are no tensors, which runs whatever code they hold.

    Raises:
        ValueError: naming the file, if it is missing, damaged, holds code, or does not fit the network.
    """
    tensors, notes = read_tensors(path, trust=trust)
    return notes + put_weights(network, tensors, path)


def put_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> tuple[str, ...]:
    """Put the tensors of a file into a network; a sentence where prefixes had to go.

    Raises:
        ValueError: naming the file, if they do not fit the network.
    """
    own = network.state_dict(keep_vars=True)
    renamed = {_repaired(name, own): tensor for name, tensor in tensors.items()}
    if len(renamed) != len(tensors):
        raise ValueError(
            f"{path}: has the same weights with and without a prefix; keep one of them"
        )
    _check_fit(own, renamed, path)
    network.load_state_dict(renamed, strict=False)
    removed = sorted({a.removesuffix(b) for a, b in zip(tensors, renamed, strict=True) if a != b})
    if removed:
        number = sum(a not in renamed for a in tensors)
        return (f"{path}: prefix {', '.join(removed)} taken from {number} names of weights",)
    return ()


def read_tensors(path: Path, *, trust: bool = False) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors of a file by name, and a sentence where they lay deeper than at the top.

    Raises:
        ValueError: naming the file, if it is missing, damaged or holds code.
    """
    if not path.is_file():
        others = [
            p.name
            for p in sorted(path.parent.glob("*"))
            if p.suffix in (".pt", ".pth", ".bin", ".safetensors")
        ]
        hint = f"; found {', '.join(others)}" if others else ""
        raise ValueError(
            f"{path}: no such file{hint}. Weights must be safetensors or a state dict of tensors"
        )
    if path.suffix == ".safetensors":
        return _safe(path), ()
    loaded = unpickled(path, trust=trust)
    for wrapper in ("", *WRAPPERS):
        inner = loaded.get(wrapper) if wrapper and isinstance(loaded, Mapping) else loaded
        if isinstance(inner, nn.Module):
            inner = inner.state_dict()
        if (
            isinstance(inner, Mapping)
            and inner
            and all(isinstance(v, Tensor) for v in inner.values())
        ):
            note = (f"{path}: weights are those under {wrapper!r}",) if wrapper else ()
            return dict(inner), note
    keys = f" with {', '.join(map(str, list(loaded)[:6]))}" if isinstance(loaded, Mapping) else ""
    raise ValueError(
        f"{path}: must hold tensors by name, at the top or under {', '.join(WRAPPERS)}; it holds a "
        f"{type(loaded).__name__}{keys}; save model.state_dict() with safetensors.torch.save_file"
    )


def unpickled(path: Path, *, trust: bool = False, admitted: Mapping[str, Any] | None = None) -> Any:
    """What torch.save wrote: tensors, plain containers and what is admitted, or with `trust` anything.

    Args:
        path: File.
        trust: Import whatever it wants, which runs whatever code it holds.
        admitted: Harmless classes and functions by the names under which the file may want them.

    Raises:
        ValueError: naming the file and what it wants to import, if that is more; or if the file is damaged.
    """
    if kind_of(path) == "unknown":
        raise ValueError(
            f"{path}: is no whole checkpoint (neither zip archive nor pickle, or cut off); copy it again from where it came"
        )
    names = dict(admitted or {})
    try:
        with torch.serialization.safe_globals([(value, name) for name, value in names.items()]):
            return plainly_loaded(path, trust=trust)
    except pickle.UnpicklingError as error:
        found = [name for name in unsafe_globals(path) if name not in names]
        if not found:
            reason = str(error).strip().splitlines()[0][:200]
            raise ValueError(f"{path}: is no whole checkpoint ({reason}); copy it again") from None
        raise ValueError(
            f"{path}: is a pickle that would import {', '.join(found[:6])}, which can run code, so it was not loaded; save "
            "its state_dict() with safetensors.torch.save_file, or load it with --trust if you trust whoever made it"
        ) from None
    except (AttributeError, ImportError) as error:
        raise ValueError(
            f"{path}: is a whole pickled network whose class cannot be imported here ({error}); put its module on "
            "PYTHONPATH, or save its state_dict() and name the class as target in [network] of a source.toml"
        ) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: is no whole checkpoint ({reason}); copy it again from where it came"
        ) from None


def _safe(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: is no whole safetensors file ({error}); if it is a pickle (torch.save), convert it with "
            "safetensors.torch.save_file; else copy it again"
        ) from None


def _repaired(name: str, own: Mapping[str, Any]) -> str:
    """The name without prefixes, as far as they have to go for the network to know it."""
    short = name
    while short not in own:
        prefix = next((p for p in PREFIXES if short.startswith(p)), None)
        if prefix is None:
            return name
        short = short.removeprefix(prefix)
    return short


def _check_fit(own: Mapping[str, Any], given: Mapping[str, Tensor], path: Path) -> None:
    present = {own[name].data_ptr() for name in given if name in own and own[name].numel()}
    absent = {t.data_ptr(): n for n, t in list(own.items())[::-1] if n not in given}
    missing = [n for pointer, n in absent.items() if pointer not in present][::-1]
    strange = [n for n in given if n not in own]
    shaped = [
        f"{n} is {tuple(t.shape)} in the file, {tuple(own[n].shape)} in the network"
        for n, t in given.items()
        if n in own and t.shape != own[n].shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:2])})"
        for names, what in (
            (shaped, "of another shape"),
            (missing, "missing in the file"),
            (strange, "unknown to the network"),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"{path}: does not fit the network: weights {'; '.join(problems)}; correct [network], classes or channels"
        )
