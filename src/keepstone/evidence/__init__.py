"""What was stated, by whom, about which digest - and what of it still holds."""
