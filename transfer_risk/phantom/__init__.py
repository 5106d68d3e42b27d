"""The embedded cohort: pseudo-subjects of one brain template, written as nnU-Net raw folders.

Every subject is a smooth random deformation of one template (by default the MNI ICBM152 T1 with
its grey and white matter maps) and every image follows from the spin-echo equation and literature
relaxation times, plus what the real T1 of the template adds to its tissue maps. Tumours are drawn,
not grown. The cohort makes each program run on real files without a download. It replaces no
patients: its anatomical variability is that of smooth deformations of one brain, so a number
measured on it says how a method behaves, never how well it does in a clinic.
"""

from transfer_risk.phantom.dataset import write_tissue_cohort, write_tumour_cohort
from transfer_risk.phantom.mixture import template_from_t1
from transfer_risk.phantom.pairs import write_source_and_target
from transfer_risk.phantom.template import Template, load_template

__all__ = [
    "Template",
    "load_template",
    "template_from_t1",
    "write_source_and_target",
    "write_tissue_cohort",
    "write_tumour_cohort",
]
