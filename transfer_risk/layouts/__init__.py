"""Data folders as tasks: nnU-Net v2 raw, Medical Segmentation Decathlon, iSeg-2019, FeTS, plain file pairs."""

from __future__ import annotations

from transfer_risk.layouts.reading import LAYOUTS, load_task, read_dataset
from transfer_risk.layouts.writing import write_tasks

__all__ = ["LAYOUTS", "load_task", "read_dataset", "write_tasks"]
