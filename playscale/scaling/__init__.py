"""Scaling laws from an isoFLOP table: arrays in, frozen results out; numpy and scipy only."""
