"""The only code that lives inside the user's process: standard library, torch once it is there."""
