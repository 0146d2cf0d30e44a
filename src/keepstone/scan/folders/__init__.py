"""What only a whole folder shows: files that name one another."""
