"""One migration, from the same .sql files that every other way of making the tables uses."""
