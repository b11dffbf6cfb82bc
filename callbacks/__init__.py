"""Callbacks that watch a logic gate network while it trains; one a file, named by ``class_path`` in a recipe."""

if __name__ == "callbacks":
    raise ImportError("import lgn_lightning.callbacks: the folder callbacks/ installs under that name")
