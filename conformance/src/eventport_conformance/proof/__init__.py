"""The proof of the suite: a right store, one that does nothing, and stores with one bug each."""
