"""The command ``lgn``: a file a verb, of the verb's name."""
