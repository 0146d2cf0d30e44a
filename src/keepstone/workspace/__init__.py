"""One folder that holds a site's keys, policy, ledger and vault, and the flows through them.

`layout` names the files, `create` makes them, `owner` keeps to one owning process, `opened` opens
everything for that owner, `operations` are what other processes may ask of it over `control`,
and `admit`, `serve`, `doctor` and `backup` are the flows.
"""
