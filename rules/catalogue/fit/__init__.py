"""Rules on how well the training learns, and on time that teaches it nothing."""
