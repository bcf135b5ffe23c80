"""Audit of synthetic images: are they faithful, novel and diverse? Each figure has a sample size, interval and null."""
