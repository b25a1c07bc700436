"""The suite that proves an eventport adapter right, clause by clause."""
