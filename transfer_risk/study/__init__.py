"""Studies of many transfers, and the command line, tables and charts of the programs that run and draw them.

What analysis/ and figures/ stand on; scoring, mapping and fine-tuning one's own models needs none of it. Jobs run in
parallel and go on after a kill (`run_jobs`). A `TransferStudy` makes the jobs of transfers between the tasks of a cohort;
their rows are summed up over pairs of tasks (`recipe_summary`) and drawn (`chart_panels`).

Names are loaded when they are first used.
"""

from __future__ import annotations

from transfer_risk.lazy import lazily

_HOMES = {
    "program_options": "programs",
    "job_options": "programs",
    "run_program": "programs",
    "tell": "programs",
    "run_jobs": "jobs",
    "SIZES": "sizes",
    "PROBE_STEPS": "sizes",
    "METHODS": "methods",
    "RECIPES": "methods",
    "BOTH": "methods",
    "DICE": "methods",
    "PROBED": "methods",
    "PROBED_DICE": "methods",
    "CONFIRMED": "methods",
    "SCRATCH": "methods",
    "UNWEIGHTED": "methods",
    "SIMPLER": "methods",
    "VANILLA_UNFROZEN": "methods",
    "DICE_UNFROZEN": "methods",
    "PROBED_DICE_UNFROZEN": "methods",
    "UNFROZEN": "methods",
    "RECOMMENDED": "methods",
    "SCRATCH_DICE": "methods",
    "FRESH": "methods",
    "PAIRS": "cohorts",
    "TASKS": "cohorts",
    "TISSUE_TASKS": "cohorts",
    "PARTITION_TASKS": "cohorts",
    "cohort_task": "cohorts",
    "cohort_source": "cohorts",
    "tasks_of": "transfers",
    "model_path": "transfers",
    "DATA_OPTIONS": "protocols",
    "TRANSFER_OPTIONS": "protocols",
    "SECOND": "protocols",
    "THIRD": "protocols",
    "TransferStudy": "protocols",
    "transfer_study": "protocols",
    "transfer_studies": "protocols",
    "LONGER": "tables",
    "PROTOCOL": "tables",
    "regular": "tables",
    "with_longer": "tables",
    "paired_summary": "tables",
    "recipe_summary": "tables",
    "over_pairs": "tables",
    "ends": "tables",
    "write_table": "tables",
    "write_summaries": "tables",
    "write_transfer_table": "tables",
    "read_results": "results",
    "draw_results": "results",
    "BLUE": "charts",
    "RUST": "charts",
    "GREY": "charts",
    "COLOURS": "charts",
    "TEXT_SIZE": "charts",
    "chart_panels": "charts",
    "label_axes": "charts",
    "cohorts_in": "charts",
    "signed": "charts",
    "plot_lines": "charts",
    "arms": "charts",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES, globals())
