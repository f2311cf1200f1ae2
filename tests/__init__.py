"""Tests of the three packages; never part of the distribution."""
