"""Models of people who compare: simulated raters, and how far real ones can be relied on."""
