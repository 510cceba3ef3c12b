"""Many runs: sweeps, workers, results, statistics."""
