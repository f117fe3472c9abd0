"""The arithmetic behind the signals: intervals, trends, steady state, the loader's recurrence."""
