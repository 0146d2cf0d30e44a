"""The families of the corpus, one file each: `PARTS` are its makers, in order."""
