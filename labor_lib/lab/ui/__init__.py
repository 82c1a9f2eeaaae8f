"""Interactive views of a run, and the figures that show the same without a kernel."""
