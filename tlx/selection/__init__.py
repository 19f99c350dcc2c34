"""Which source for which target, before anything is trained."""
