"""What was judged is what is loaded: private staging, sealing at rest, and verified loads."""
