"""Which pretrained segmentation model to start from, where its classes do not explain your labels, did fine-tuning help.

Names are loaded when they are first used, so that importing the package costs nothing. What only the programs of studies and
figures need is in `transfer_risk.study`.
"""

from __future__ import annotations

from transfer_risk.lazy import lazily

__version__ = "0.1.0"

_HOMES = {
    "Joint": "transferability",
    "log_expected_prediction": "transferability",
    "leep": "transferability",
    "nce": "transferability",
    "RiskMap": "riskmap",
    "Span": "riskmap",
    "risk_map": "riskmap",
    "vanilla_loss": "losses",
    "class_weighted_loss": "losses",
    "transferability_weighted_loss": "losses",
    "risk_weighted_loss": "losses",
    "RiskWeightedLoss": "losses",
    "Estimate": "intervals",
    "Task": "tasks",
    "Case": "tasks",
    "Slices": "tasks",
    "Preprocessing": "tasks",
    "Decision": "tasks",
    "Source": "sources",
    "Volume": "volumes",
    "read": "volumes",
    "UNet": "networks",
    "load_task": "layouts",
    "write_tasks": "layouts",
    "load_source": "adapters",
    "save_source": "adapters",
    "predict": "prediction",
    "evaluate": "evaluation",
    "score": "scoring",
    "risk_maps": "mapping",
    "write_maps": "mapping",
    "negative_transfer": "harm",
    "NegativeTransfer": "harm",
    "rank_sources": "ranking",
    "SCORES": "scoretables",
    "audit": "auditing",
    "MEASURES": "auditing",
    "Recipe": "recipes",
    "training_slices": "subsets",
    "diagnose": "doctor",
    "Finding": "doctor",
    "tune_decision": "decisions",
    "pretrain": "pretraining",
    "finetune": "finetuning",
    "load_run": "runs",
    "Comparison": "comparison",
    "compare": "comparison",
    "map_changes": "changes",
    "plot_risk": "plotting",
    "plot_ranking": "plotting",
    "plot_curves": "plotting",
    "plot_change": "galleries",
    "plot_maps": "galleries",
    "plot_risks": "galleries",
    "save_figure": "plotting",
    "load_template": "phantom",
    "write_tissue_cohort": "phantom",
    "write_tumour_cohort": "phantom",
    "write_source_and_target": "phantom",
}
__all__ = [*_HOMES, "__version__"]
__getattr__, __dir__ = lazily(__name__, _HOMES, globals())
