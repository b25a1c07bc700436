"""The clauses, a module for each group."""
