"""One file a task: the only place where maps and tensors meet."""
