"""Gradient masking: signs that attacks by gradient would overstate a model's robustness."""
