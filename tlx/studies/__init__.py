"""Many runs as one: stages, sweeps and audits."""
