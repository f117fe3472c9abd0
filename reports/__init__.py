"""What shows: every report reads one `Diagnosis` and nothing else."""
