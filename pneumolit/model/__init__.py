"""From a batch to logits and loss: backbones, weights, freezing, the LightningModule."""
