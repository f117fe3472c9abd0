"""The live dashboard: what is shown (board), how it reads (panels, views), and the screen (app)."""
