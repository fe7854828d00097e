"""What operators decide and what they are shown: holds, findings, pauses, the audit."""
