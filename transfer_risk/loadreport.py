"""Which tensors of a source a network was given, which start anew, and which are trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transfer_risk.sources import Source
from transfer_risk.textrows import listed


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor, and what is trained.

    Args:
        loaded: Names of tensors with the source's values.
        replaced: Names and shapes of tensors that start anew.
        left: Names of tensors of the source that the new network does not have.
        trainable: Names of parameters that are trained.
        frozen: Names of parameters that are not.
        counts: Numbers of trained and of frozen values.
    """

    loaded: tuple[str, ...]
    replaced: tuple[str, ...]
    left: tuple[str, ...]
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    counts: tuple[int, int]

    def __str__(self) -> str:
        """Four lines that paste."""
        trained, kept = self.counts
        lines = (
            ("loaded", f"{len(self.loaded)} tensors of the source"),
            ("replaced", listed(self.replaced, 6) or "-"),
            ("left over", listed(self.left, 6) or "-"),
            (
                "trainable",
                f"{len(self.trainable)} parameters, {trained:,} values: {parts(self.trainable)}",
            ),
            ("frozen", f"{len(self.frozen)} parameters, {kept:,} values: {parts(self.frozen)}"),
        )
        return "\n".join(f"{name:<10} {text}" for name, text in lines)


def load_report(source: Source, network: nn.Module, *, scratch: bool = False) -> LoadReport:
    """What `network` has from the source, and what of it is trained."""
    old, new = source.network.state_dict(), network.state_dict()
    same = {
        name
        for name, tensor in new.items()
        if not scratch and name in old and _equal(old[name], tensor)
    }
    parameters = dict(network.named_parameters())
    trainable = tuple(n for n, p in parameters.items() if p.requires_grad)
    frozen = tuple(n for n in parameters if n not in trainable)
    return LoadReport(
        tuple(n for n in new if n in same),
        tuple(f"{n} {tuple(t.shape)}" for n, t in new.items() if n not in same),
        tuple(n for n in old if n not in new),
        trainable,
        frozen,
        (
            sum(parameters[n].numel() for n in trainable),
            sum(parameters[n].numel() for n in frozen),
        ),
    )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))


def parts(names: tuple[str, ...]) -> str:
    """The first parts of dotted names, each once."""
    return ", ".join(_top(names)) or "-"


def _top(names: tuple[str, ...]) -> Iterator[str]:
    yield from dict.fromkeys(name.partition(".")[0] for name in names)
