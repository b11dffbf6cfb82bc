"""Netlists as C, Verilog, BLIF and AIGER, and the files of an export."""
