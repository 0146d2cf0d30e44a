"""MLflow under guard: what it loads is verified, and what it promotes needs evidence.

One file per plugin point: `artifacts` (artifact repositories), `server` (the application),
`request_auth` and `authorization` (credentials). What they decide by is in `judging`.
"""
