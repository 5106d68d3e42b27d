"""The order of a network's channels in its source: of overlapping ones, later overwrite earlier (`[network] order`)."""

from __future__ import annotations

from collections.abc import Sequence

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


def order_entry(description: Description) -> dict[str, list[int]]:
    """The entry `order` of the source's table of its network, where `[network]` says one, else an empty table.

    `classes` of the description are in that order already.

    Raises:
        ValueError: naming the file, as `order_of`.
    """
    activation = str(description.table.get("activation", "softmax"))
    count = num_channels(activation, len(description.names("classes")))[0]
    order = order_of(description, count)
    return {"order": order} if order else {}
