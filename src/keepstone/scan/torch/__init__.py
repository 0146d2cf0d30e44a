"""torch's files: checkpoints (zip and legacy), TorchScript, exported programs."""
