"""What source.toml says of a model, beside what its files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from transfer_risk.sources import Source
from transfer_risk.tasks import Decision, Preprocessing
from transfer_risk.tomlfiles import read_toml, refuse_unknown

KEYS = (
    *("format", "name", "licence", "spatial_dims", "channels", "classes", "activation", "encoder", "labels"),
    *("network", "preprocessing", "decision", "trained", "missing_channels"),
)  # fmt: skip
TABLES = ("labels", "network", "preprocessing", "decision", "trained")


@dataclass(frozen=True)
class Description:
    """The table of a source.toml.

    Args:
        file: Where it was read, or where it would be looked for.
        table: Empty where there is no such file.
    """

    file: Path
    table: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, config: str | Path | None = None) -> Description:
        """Of a model file or folder: what `config` says, else `<stem>.source.toml` or `source.toml` beside it.

        Raises:
            ValueError: naming the file, if it cannot be read, has an unknown key, or something else where a table must be.
        """
        own = [path.with_name(f"{path.stem}.source.toml")] if path.is_file() else []
        places = [*own, folder_of(path) / "source.toml"]
        file = next((p for p in places if p.is_file()), places[0])
        if config is not None or path.suffix == ".toml":
            file = Path(config or path)
        elif not file.is_file():
            return cls(file)
        table = read_toml(file)
        refuse_unknown(table, KEYS, f"{file}: a source")
        for key in TABLES:
            if not isinstance(table.get(key, {}), Mapping):
                raise ValueError(f"{file}: {key} must be a table, [{key}]; got {table[key]!r}")
        return cls(file, table)

    @property
    def network(self) -> Mapping[str, Any]:
        """The `[network]` table, or an empty one."""
        table: Mapping[str, Any] = self.table.get("network", {})
        return table

    @property
    def target(self) -> str:
        """What `[network]` says that the network is, or an empty string."""
        return str(self.network.get("target", ""))

    def names(self, key: str, table: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Names of channels or classes, of the table or of a fuller one.

        Raises:
            ValueError: naming the file, if there are none.
        """
        known = self.table if table is None else table
        if key not in known:
            raise ValueError(
                f"{self.file}: needs the key {key!r}, which the model's files do not say; write {key} = [...] there, or "
                "give --source-config FILE"
            )
        names = known[key]
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"{self.file}: {key} must be a list of names; got {names!r}")
        return tuple(names)

    def source(
        self,
        network: nn.Module,
        path: Path,
        *,
        found: Mapping[str, Any],
        architecture: Mapping[str, Any],
        notes: tuple[str, ...] = (),
    ) -> Source:
        """The source of a network: what the description says, else what was found in the model's own files.

        Raises:
            ValueError: naming the file, if something is missing or wrong.
        """
        table = {**found, **self.table}
        table["preprocessing"] = {
            **found.get("preprocessing", {}),
            **self.table.get("preprocessing", {}),
        }
        channels, classes = self.names("channels", table), self.names("classes", table)
        try:
            return Source(
                name=table.get("name", default_name(path)),
                network=network,
                classes=classes,
                channels=channels,
                labels=table.get("labels", {}),
                activation=table.get("activation", "softmax"),
                spatial_dims=table.get("spatial_dims", 2),
                preprocessing=Preprocessing.of(table["preprocessing"]),
                encoder=table.get("encoder", ""),
                decision=Decision.of(table.get("decision", {})),
                licence=table.get("licence", ""),
                trained=table.get("trained", {}),
                architecture=architecture,
                missing_channels=table.get("missing_channels", ""),
                notes=notes,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.file}: {error}") from None


def folder_of(path: Path) -> Path:
    """The folder itself, or the one that holds the file."""
    return path if path.is_dir() else path.parent


def default_name(path: Path) -> str:
    """Name of a model that has none: its file's, or its folder's where that says nothing."""
    if path.is_file() and path.suffix != ".toml" and path.stem != "model":
        return path.stem
    return folder_of(path.resolve()).name
