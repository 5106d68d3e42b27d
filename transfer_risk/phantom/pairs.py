"""Two cohorts that differ as institutions do: other pseudo-subjects, another scanner."""

from pathlib import Path

from transfer_risk.phantom.dataset import write_tissue_cohort, write_tumour_cohort
from transfer_risk.phantom.template import FilePath, Template

WRITERS = {"tissue": write_tissue_cohort, "tumour": write_tumour_cohort}


def write_source_and_target(
    root: FilePath,
    *,
    anatomy: str = "tissue",
    cases: int = 10,
    seed: int = 0,
    template: Template | None = None,
) -> tuple[Path, Path]:
    """Folders Dataset001_Source (institution 1, seed + 1) and Dataset002_Target (institution 0, seed) in `root`.

    Args:
        root: Folder that receives both; made if missing. One that is there already is kept as it is.
        anatomy: `tissue` or `tumour`.
        cases: Subjects of each.
        seed: Which subjects, at least 0.
        template: The brain to deform; by default `load_template(spacing=2)`.

    Raises:
        ValueError: if anatomy is neither.
    """
    if anatomy not in WRITERS:
        raise ValueError(f"anatomy must be one of {', '.join(WRITERS)}; got {anatomy!r}")
    folders = []
    for institution, name in ((1, "Dataset001_Source"), (0, "Dataset002_Target")):
        folders.append(Path(root) / name)
        if not folders[-1].exists():
            WRITERS[anatomy](
                root,
                cases=cases,
                seed=seed + institution,
                template=template,
                institution=institution,
                name=name,
                prefix=name[-6:].lower(),
            )
    return folders[0], folders[1]
