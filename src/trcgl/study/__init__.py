"""Controlled experiments: arms that differ in one setting, trained with several seeds and compared on test."""
