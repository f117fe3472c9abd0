"""The zoo: a public benchmark of diagnosis. `make zoo` runs it, docs/zoo.md is its table."""
