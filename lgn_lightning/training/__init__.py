"""The LightningModule, its losses, strategies and checkpoints."""
