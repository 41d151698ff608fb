"""The plan of a sweep: everything that is computed and checked before anything runs."""
