"""Attacks, one file each: they ask a metered target and give nothing back."""
