"""Audit of synthetic images: are they faithful, novel and diverse? Every figure has an n, an interval and a null."""
