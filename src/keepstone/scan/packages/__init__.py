"""Which packages a folder, an environment or an image holds, whatever manager put them there."""
