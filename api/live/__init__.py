"""Live events: one reader a process follows the history, and fans out to the streams of this process."""
