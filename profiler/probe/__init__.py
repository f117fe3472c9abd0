"""The dataset probe: looks at a copy of the training's data set in a process of its own."""
