"""Colours of lines and dots: Okabe and Ito's, for colour-blind readers."""

BLUE, RUST, GREY = "#0072b2", "#d55e00", "#8c8c8c"
COLOURS = (BLUE, RUST, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
"""The strongest on white first; then brown, which is not theirs."""
