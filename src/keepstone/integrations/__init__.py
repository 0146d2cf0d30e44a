"""Entry points that other programs call; each is a thin face over the workspace or a bundle."""
