"""What a logical unit has and what a task is: the values and state that the command handlers work on."""
