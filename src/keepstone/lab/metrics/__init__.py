"""What is measured of a target under attack, with its uncertainty."""
