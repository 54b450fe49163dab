"""What runs the networks of a model: the fastest of several ways that this machine has, as measured and checked."""
