"""``lgn report``: one HTML file that shows what a run did and what its net became."""

from lgn_lightning.report.page import write_report

__all__ = ["write_report"]
