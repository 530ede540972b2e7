"""Views: what people look at, of results that are published."""
