"""Controlled experiments: arms that differ in one thing, several seeds each, and what may be said about them."""
