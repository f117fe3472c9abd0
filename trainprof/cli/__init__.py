"""One file per command; only `main` prints errors and picks exit statuses."""
