"""An nnU-Net trainer whose cross-entropy is weighted by the risk of transferring from a source. Run with nnunetv2 2.8.1.

nnunetv2 is no dependency of transfer-risk and this file is not part of its test suite. docs/nnunet.md says how to run it.

The source is an nnU-Net folder with the plans of this training (nnUNetv2_move_plans_between_datasets), so that its network
sees the same patches. Its joint table with the target's labels is estimated on the training cases before the first epoch.
The risk of each augmented patch then follows from the source's prediction on that very patch, so that nothing has to be
moved through the augmentation. Not for overlapping regions or an ignore label.
"""

import os
from functools import reduce
from operator import add

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

import transfer_risk as tr
from transfer_risk.prediction import predict_images


class nnUNetTrainerRiskMap(nnUNetTrainer):
    """Risk-weighted cross-entropy in place of the plain one, beside nnU-Net's Dice loss; no deep supervision."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        self.num_epochs = int(os.environ.get("TRANSFER_RISK_EPOCHS", self.num_epochs))
        self.source = tr.load_source(os.environ["TRANSFER_RISK_SOURCE"])

    def on_train_start(self):
        """Estimate the joint table on the training cases."""
        super().on_train_start()
        cases, _ = self.get_tr_and_val_datasets()
        joint = reduce(add, (self.joint_of(*cases.load_case(c)[:2]) for c in cases.identifiers))
        self.joint = tr.Joint(joint.counts.to(self.device))
        self.source.network.to(self.device)
        self.print_to_log_file(f"P(y|z) of {self.source.name}: {self.joint.conditional.tolist()}")

    def joint_of(self, data, seg):
        """Joint table of a preprocessed case."""
        images = torch.as_tensor(data[:]).float()
        labels = torch.as_tensor(seg[:]).long().clamp(min=0)  # -1 is background, as in training
        if self.source.spatial_dims == 2:
            images, labels = images.movedim(1, 0), labels[0]  # slices
        else:
            images = images[None]
        return tr.Joint.of(
            predict_images(self.source, images), labels, self.label_manager.num_segmentation_heads
        )

    def train_step(self, batch):
        """One step; the loss is sum R CE / pixels plus nnU-Net's Dice loss."""
        images, target = batch["data"].to(self.device), batch["target"].to(self.device)
        labels = target[:, 0].long()
        with torch.no_grad():
            theta = self.source.predict(images)
            values = tr.log_expected_prediction(theta, labels, self.joint, smoothed=True)
            risk = tr.RiskMap(values, tr.Span.of(values, per_image=True)).risk
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.network(images)
        # under SGD the paper's divisor (foreground) is a factor of the learning rate: divided by all pixels here
        loss = tr.risk_weighted_loss(logits, labels, risk, divisor="pixels")
        loss = loss + self.loss.dc(logits, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()
        return {"loss": loss.detach().cpu().numpy()}
