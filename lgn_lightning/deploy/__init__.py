"""From a trained net to files: where a circuit comes from, its folder, and the trial that it equals the net."""
