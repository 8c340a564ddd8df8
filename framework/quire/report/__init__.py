"""Recorded runs read back: compared, tabulated, drawn, and put on one page."""
