"""A corpus of model files, good and bad: `python -m bench.corpus FOLDER` writes it from a seed.

What is in it comes from the specifications of the formats and from public advisories; nothing of
it is a copy. A payload does no harm: it makes an empty file where CORPUS_MARK says, or reads a
file of its own; nothing reaches a network.

The same seed makes the same files; only where a library puts a time, an address or a random name
into what it writes do bytes differ from run to run.

One file per family lies in `families/`. Decided once, for all of them:

- *malicious* is a file that runs, reads, writes or exhausts what its format or its honest users
  never would, or that two readers take for different things. *benign* is what a framework's own
  `save` writes from its own classes.
- A whole `torch.nn.Module` in a pickle is neither, and the corpus has none: loading one needs an
  unrestricted unpickler, and its classes are torch's own. A site that wants them adds them to its
  allow-list.
- A function or a class by value (cloudpickle, dill) is code, and counts as malicious.
"""
