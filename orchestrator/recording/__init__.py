"""The journal of a sweep and what is made of it: tables, leaderboard, directory, object stores."""
