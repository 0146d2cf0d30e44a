"""One readable policy file decides: who may call what, which evidence a model needs, from whom.

`document` is the file as values, `parse` reads it, `compile` turns it into Cedar, `engine` asks
Cedar, `trust` says whose word counts for what, `gate` reads the evidence and answers, `admission`
makes the answer into something a vault can check, `explain` says why.
"""
