"""The registry over HTTPS: routes, the guards in order, and artifacts in pieces both ways.

It knows no model and no store: what is asked is handed to a `Registry`, which decides, records
and answers.
"""
