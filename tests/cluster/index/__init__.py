"""The list index beside the database: who writes, what is compared, how the two stand."""
