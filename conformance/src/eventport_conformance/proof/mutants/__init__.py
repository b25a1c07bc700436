"""Stores with one bug each, by clause group. The bugs are those that stores really have, or had."""
