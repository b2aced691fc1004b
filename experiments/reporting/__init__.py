"""Parts of the report: what is read, what is said, and the formats it is written in."""
