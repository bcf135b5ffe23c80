"""Tests of the checks of an audit."""
