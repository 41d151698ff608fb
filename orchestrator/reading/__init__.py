"""Reading of a sweep: status, answer, queries, report, export."""
