"""What is on disk beside a circuit: recipes, run folders, checkpoint files, loggers, the code's commit."""
