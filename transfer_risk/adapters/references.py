"""References of MONAI's configurations, read as data: `@name`, `@name::key`, `@name#key`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def resolved(value: Any, config: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """A value with its references (`@name`, `@name::key`, `@name#key`) replaced by what they stand for.

    Raises:
        ValueError: beginning with `where`, for an expression (`$...`), a macro (`%...`), or a reference to nothing.
    """
    if isinstance(value, Mapping):
        return {k: resolved(v, config, where, depth) for k, v in value.items()}
    if isinstance(value, list):
        return [resolved(v, config, where, depth) for v in value]
    if not isinstance(value, str) or not value.startswith(("$", "%", "@")):
        return value
    return resolved(followed(value, config, where, depth), config, where, depth + 1)


def followed(value: Any, config: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """A value, or where it is a reference what that stands for, as it is in the configuration.

    Raises:
        ValueError: as `resolved`.
    """
    if not isinstance(value, str):
        return value
    if value[:1] in ("$", "%"):
        raise ValueError(
            f"{where} has the expression {value[:120]!r}, which would run code, so it was not run; write its value in "
            "the configuration, or the [network] or [preprocessing] table in a source.toml"
        )
    if not value.startswith("@"):
        return value
    found: Any = config
    for key in value[1:].replace("#", "::").split("::"):
        found = found.get(key) if isinstance(found, Mapping) else _item(found, key)
    if found is None or depth > 20:
        raise ValueError(f"{where} refers to {value}, which the configuration does not have")
    return followed(found, config, where, depth + 1)


def expressions(value: Any) -> Iterator[str]:
    """All strings in a configuration that MONAI would run."""
    if isinstance(value, Mapping):
        value = list(value.values())
    for inner in value if isinstance(value, list) else [value]:
        if isinstance(inner, str) and inner.startswith("$"):
            yield inner
        elif isinstance(inner, Mapping | list):
            yield from expressions(inner)


def _item(found: Any, key: str) -> Any:
    return (
        found[int(key)]
        if isinstance(found, list) and key.isdigit() and int(key) < len(found)
        else None
    )
