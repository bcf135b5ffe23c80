"""Phantom."""
