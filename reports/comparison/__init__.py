"""Two groups of runs side by side: as text, JSON, HTML and Markdown."""
