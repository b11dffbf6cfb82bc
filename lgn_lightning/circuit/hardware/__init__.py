"""A circuit as hardware: one netlist of encoder, gates, sums and decision, its pipeline, and what it costs."""
