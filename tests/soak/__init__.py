"""Stress tests: hostile files, arguments and recipes by the thousand, kills in writes, full disks.

Every module has functions that take a count: ``make test`` runs a slice of each, ``make soak`` all. Each case has a
seed that makes it again. ``python -m tests.soak forged_circuits 2000 --first 500`` runs one module alone, and
``python -m tests.soak forged_circuits --seed 517`` one case, with what it raises. Cases that fail are written to
``build/soak`` (``LGN_SOAK_OUT`` names another folder).
"""
