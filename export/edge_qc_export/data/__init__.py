"""Labelled images in: tables, views cut once, and what is held out."""
