"""The proof of the suite: a reference store, a no-op store, and mutants with one bug each."""
