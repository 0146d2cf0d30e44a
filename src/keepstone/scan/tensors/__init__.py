"""Files of tensors and nothing else: safetensors and GGUF."""
