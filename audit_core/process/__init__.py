"""What a process does to those who live in it: it forks, ends, waits for its disk and for its threads."""
