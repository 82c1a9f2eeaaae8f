"""What people use: runs, reports, figures, views and the notebooks' helpers."""
