"""The records of a sweep: journal, tables, leaderboard, directory, object stores."""
