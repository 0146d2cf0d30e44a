"""What a newcomer runs. A package of its own, for some libraries install one of the same name."""
