"""What runs in the scratch process: the target's interpreter, the standard library, its torch."""
