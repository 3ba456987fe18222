"""The HTML report of a run."""

from ._write import write_report as write_report
