"""The order of a network's channels: of overlapping ones, later overwrite earlier (`[network] order`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from transfer_risk.adapters.description import Description
from transfer_risk.outputs import num_channels


def order_of(description: Description, count: int, names: Sequence[str] = ()) -> list[int]:
    """Numbers of the network's channels in the order that `[network] order` gives them; empty where it says nothing.

    Args:
        description: Its `order` has each channel once: by number, from 0, or by name.
        count: Of the network's channels.
        names: Of the channels, where the model's files have them.

    Raises:
        ValueError: naming the file, if `order` is anything else.
    """
    if "order" not in description.network:
        return []
    given, known = description.network["order"], list(names)
    listed = given if isinstance(given, list) else []
    numbers = [known.index(v) if v in known else v for v in listed]
    if len(numbers) != count or not all(k in numbers for k in range(count)):
        which = f"by name {known} or by number" if known else "by number"
        raise ValueError(
            f"{description.file}: [network] order must list each of the network's {count} channels once, {which} from 0; "
            f"got {given!r}"
        )
    return [int(number) for number in numbers]


def put_in_order(network: nn.Module, description: Description) -> dict[str, list[int]]:
    """Give the network the order that `[network]` says; that entry, or an empty table.

    `classes` of the description are in that order already.

    Raises:
        ValueError: naming the file, as `order_of`.
    """
    activation = str(description.table.get("activation", "softmax"))
    count = num_channels(activation, len(description.names("classes")))[0]
    order = order_of(description, count)
    reorder(network, order)
    return {"order": order} if order else {}


def reorder(network: nn.Module, order: Sequence[int]) -> None:
    """Let a network return its channels in an order from now on, whatever it is given; its weights stay as they are.

    An output with another number of channels, such as that of a new head, is left alone; so is all of them if the order is
    empty.

    >>> import torch
    >>> network = nn.Identity()
    >>> reorder(network, [1, 0])
    >>> network(torch.tensor([[[[1.0]], [[2.0]]]])).flatten()
    tensor([2., 1.])
    """
    if order:
        network.register_forward_hook(partial(_reordered, list(order)))


def _reordered(order: list[int], _: nn.Module, images: tuple[Any, ...], outputs: Any) -> Any:
    """A network's outputs with the channels of each tensor (B, Z, *S), or (B, heads, Z, *S), in order."""
    if isinstance(outputs, Mapping):
        return {key: _reordered(order, _, images, value) for key, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return [_reordered(order, _, images, value) for value in outputs]
    if not isinstance(outputs, Tensor):
        return outputs
    axis = outputs.ndim - images[0].ndim + 1
    fits = axis in (1, 2) and outputs.shape[axis] == len(order)
    return outputs[(slice(None),) * axis + (order,)] if fits else outputs
