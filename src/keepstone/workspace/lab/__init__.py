"""The lab's flows: open a model or call a training function, attack or defend, say what came of it.

`attacking` opens model files, and `training` the caller's own code; `auditing` asks what a model
gives away, `drilling` poisons its training, `slowing` looks for inputs that cost, and `hardening`,
of a model or of its data, tries defences and writes what they made. Nobody is admitted here.
"""
