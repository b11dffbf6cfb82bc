"""The command ``lgn``: one file a verb, of its name, and what verbs share."""
