"""Who acts: principals, API keys, tokens, signing keys, and the local certificate authority."""
