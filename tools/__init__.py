"""Programs for those who work on this repository; none of them is installed."""
