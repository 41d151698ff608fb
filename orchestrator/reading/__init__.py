"""What is done with a sweep that is there: status, answer, queries, report, export."""
