"""A trained model and image files become decisions: what to read, what a model says, what is out of its range."""
