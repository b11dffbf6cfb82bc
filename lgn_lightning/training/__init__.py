"""The LightningModule, its targets, strategies and checkpoints."""
