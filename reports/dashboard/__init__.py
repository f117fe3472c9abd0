"""The live dashboard: what is shown (board), how it reads (panels), and the screen (app)."""
