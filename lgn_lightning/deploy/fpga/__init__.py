"""A circuit on a device: synthesis, place and route by free tools, and projects for those of the vendors."""
