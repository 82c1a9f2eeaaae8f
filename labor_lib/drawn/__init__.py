"""Worlds that need no download: streets, digits and shapes, drawn by program."""
